"""The `TextGenerator` baseline: text drawn from counts of n-grams."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save
from torch import Tensor

from zoo.data.tokenizer import TextTokenizer
from zoo.errors import InputError
from zoo.files import write_atomically
from zoo.ngram_model import NgramModel
from zoo.one_to_many.generation import generate_text, stream_text
from zoo.pretrained import CHECKSUM, checksum, read_weights

MARKOV_FILE = "markov.safetensors"


class MarkovGenerator(NgramModel):
    """Generates text from counts of n-grams: an `NgramModel` over the tokens of a tokenizer, with its methods.

    Args:
        tokenizer: turns text into ids in [0, V) and back; V is its `vocab_size`.
        order: n, the longest n-gram that is counted; a context has up to n-1 tokens.

    Raises:
        ValueError: `order` is not 1 to 64, or the tokenizer's `vocab_size` is less than 1.
    """

    def __init__(self, *, tokenizer: TextTokenizer, order: int = 6) -> None:
        super().__init__(tokenizer.vocab_size, order)
        self.tokenizer = tokenizer
        self._counted = torch.empty(0, dtype=torch.int32)

    def fit(self, tokens: Tensor) -> Self:
        """Counts the n-grams of one text; see `NgramModel.fit`."""
        super().fit(tokens)
        self._counted = tokens.to("cpu", torch.int32, copy=True).contiguous()
        return self

    def save(self, folder: str | Path) -> None:
        """Write what was counted into a folder: the tokens and n, since tables of counts are many times their size.

        Raises:
            OSError: the file cannot be written.
            RuntimeError: `fit` was not called.
        """
        self._require_fit()
        stored = {"tokens": self._counted, "order": torch.tensor(self.order), "tokenizer": _digest(self.tokenizer)}
        write_atomically(Path(folder) / MARKOV_FILE, save(stored, {CHECKSUM: checksum(stored)}))

    @classmethod
    def load(cls, folder: str | Path, tokenizer: TextTokenizer) -> Self:
        """Count again what was saved in a folder.

        Raises:
            InputError: there is no such file, it is damaged, or of another tokenizer.
        """
        file = Path(folder) / MARKOV_FILE
        if not file.exists():
            counted = "the n-gram model that scripts/train_text_generator.py counts when a run ends"
            raise InputError(f"{folder} has no {MARKOV_FILE}, {counted}: go on with the run, or do without")
        stored, _ = read_weights(file)
        if stored.keys() != {"tokens", "order", "tokenizer"}:
            raise InputError(f"{file} has no n-gram model in it")
        if not torch.equal(stored["tokenizer"], _digest(tokenizer)):
            raise InputError(f"{file} was counted with another tokenizer than the one beside it")
        order, tokens = stored["order"], stored["tokens"]
        try:
            if order.dtype != torch.int64 or order.ndim > 0:
                raise ValueError(f"order has shape {tuple(order.shape)} and dtype {order.dtype}: expected an integer")
            return cls(tokenizer=tokenizer, order=int(order)).fit(tokens)
        except ValueError as error:
            raise InputError(f"{file} has no n-gram model in it: {error}") from error

    def generate(self, prompt: str | Sequence[str] = "", **options: Any) -> Any:
        """Continues one prompt or a list of them; the options are those of `generation.generate_text`.

        Raises RuntimeError if `fit` was not called.
        """
        self._require_fit()
        return generate_text(self, self.tokenizer, prompt, **options)

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Yields a continuation piece by piece; the options are those of `generation.stream_text`.

        Raises RuntimeError if `fit` was not called.
        """
        self._require_fit()
        return stream_text(self, self.tokenizer, prompt, **options)


def _digest(tokenizer: TextTokenizer) -> Tensor:
    """(32,) uint8: what tells a tokenizer from all others."""
    digest = hashlib.sha256(tokenizer.to_json().encode("utf-8", "surrogatepass")).digest()
    return torch.tensor(list(digest), dtype=torch.uint8)
