"""The `TextGenerator` baseline: text drawn from counts of n-grams."""

from collections.abc import Iterator, Sequence
from typing import Any

from zoo.data.tokenizer import TextTokenizer
from zoo.ngram_model import NgramModel
from zoo.one_to_many.generation import generate_text, stream_text


class MarkovGenerator(NgramModel):
    """Generates text from counts of n-grams: an `NgramModel` over the tokens of a tokenizer, with its methods.

    Args:
        tokenizer: turns text into ids in [0, V) and back; V is its `vocab_size`.
        order: n, the longest n-gram that is counted; a context has up to n-1 tokens.

    Raises:
        ValueError: `order` or the tokenizer's `vocab_size` is less than 1.
    """

    def __init__(self, *, tokenizer: TextTokenizer, order: int = 6) -> None:
        super().__init__(tokenizer.vocab_size, order)
        self.tokenizer = tokenizer

    def generate(self, prompt: str | Sequence[str] = "", **options: Any) -> Any:
        """Continues one prompt or a list of them; the options are those of `generation.generate_text`."""
        self._require_fit()
        return generate_text(self, self.tokenizer, prompt, **options)

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Yields a continuation piece by piece; the options are those of `generation.stream_text`."""
        self._require_fit()
        return stream_text(self, self.tokenizer, prompt, **options)
