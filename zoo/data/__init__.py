"""Where examples come from, how text becomes numbers, and how numbers become batches.

The library `datasets` is imported only when a source needs it (see `zoo.data.rows`).
"""

from zoo.data.long_text import LongText
from zoo.data.text import TextCorpus, load_text
from zoo.data.token_cache import Tokens, cached_tokenizer, tokenize
from zoo.data.tokenizer import TextTokenizer
from zoo.data.windows import ContiguousWindows, WindowBatch, fresh_windows, spread

__all__ = [
    "ContiguousWindows",
    "LongText",
    "TextCorpus",
    "TextTokenizer",
    "Tokens",
    "WindowBatch",
    "cached_tokenizer",
    "fresh_windows",
    "load_text",
    "spread",
    "tokenize",
]
