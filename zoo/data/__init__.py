"""Where examples come from, how text becomes numbers, and how numbers become batches.

The library `datasets` is imported only when a source needs it (see `zoo.data.rows`).
"""

from zoo.data.text import TextCorpus, load_text
from zoo.data.tokenizer import TextTokenizer
from zoo.data.windows import ContiguousWindows, WindowBatch, fresh_windows

__all__ = [
    "ContiguousWindows",
    "TextCorpus",
    "TextTokenizer",
    "WindowBatch",
    "fresh_windows",
    "load_text",
]
