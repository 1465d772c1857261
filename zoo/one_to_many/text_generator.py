"""One-to-many: a recurrent language model that continues a prompt, token by token."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.core import PackedDecoder, RecurrentDecoder, State
from zoo.data.tokenizer import TextTokenizer
from zoo.device import StepPrecision
from zoo.one_to_many.generation import generate_text, pieces_of, search_text, stream_text
from zoo.pretrained import PretrainedModel, agreed_vocab_size, evaluating

# None is what the weights are: a model in float64 stays so.
STEP_TYPES: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TextGenerator(PretrainedModel):
    """A text generator: `RecurrentDecoder` without a memory, and a tokenizer.

    Args:
        vocab_size: V; may be left out where a tokenizer is given.
        tokenizer: needed by `generate`, `stream` and `beam_search` only.
        embedding_size, hidden_size, num_layers, cell, tied, residual, ngram_order, ngram_buckets, dropout,
            input_dropout, embedding_dropout, ngram_dropout, weight_dropout: see `RecurrentDecoder`.

    Raises:
        ValueError: a size, probability or name out of range, or a `vocab_size` that is not the tokenizer's.
    """

    def __init__(
        self,
        *,
        vocab_size: int | None = None,
        tokenizer: TextTokenizer | None = None,
        embedding_size: int = 64,
        hidden_size: int = 256,
        num_layers: int = 1,
        cell: str = "lstm",
        tied: bool = False,
        residual: bool = False,
        ngram_order: int = 1,
        ngram_buckets: int = 20_000,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        ngram_dropout: float = 0.0,
        weight_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        vocab_size = agreed_vocab_size(vocab_size, tokenizer)
        # Every argument, defaults too: a later version's may be others.
        self.config = {
            "vocab_size": vocab_size,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "cell": cell,
            "tied": tied,
            "residual": residual,
            "ngram_order": ngram_order,
            "ngram_buckets": ngram_buckets,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "embedding_dropout": embedding_dropout,
            "ngram_dropout": ngram_dropout,
            "weight_dropout": weight_dropout,
        }
        self.tokenizer = tokenizer
        self.decoder = RecurrentDecoder(**self.config)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Tokens (B, T), lengths (B,) or None -> logits (B, T, V): at step t, of the token after the t-th."""
        logits, _ = self.decoder(tokens, None, lengths)
        return logits

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean nats a token of (inputs (B, T), targets (B, T)), from a zero state."""
        loss, _ = self.loss_and_state(batch, None)
        return loss

    def loss_and_state(self, batch: tuple[Tensor, Tensor], state: State | None) -> tuple[Tensor, State]:
        """The same from the state that the window before ended in: a window of truncated backpropagation.

        The state that comes back is still in the graph; `zoo.core.detach` cuts it off.
        """
        inputs, targets = batch
        features, state = self.decoder.features(inputs, state)
        return self.decoder.loss(features, targets), state

    def generate(
        self, prompt: str | Sequence[str] = "", *, precision: StepPrecision = "float32", **options: Any
    ) -> Any:
        """Continue a prompt or a list of prompts; see `zoo.one_to_many.generation.generate_text` for the options.

        With a `precision` of 16 bits it draws from almost the same model and reads half as much of it in each step:
        bfloat16 is quicker on a CPU that multiplies in it (see `zoo.device.multiplies_in_bfloat16`), float16 on
        other x86 CPUs; elsewhere they may be slower. See `zoo.core.PackedDecoder`.
        """
        with evaluating(self):
            return generate_text(self.stepper(precision), self.require_tokenizer(), prompt, **options)

    def beam_search(self, prompt: str | Sequence[str] = "", **options: Any) -> Any:
        """The likeliest continuation of a prompt or a list of prompts; see `zoo.one_to_many.generation.search_text`."""
        with evaluating(self):
            return search_text(self.stepper(), self.require_tokenizer(), prompt, **options)

    def stream(self, prompt: str = "", *, precision: StepPrecision = "float32", **options: Any) -> Iterator[str]:
        """Continue a prompt piece by piece as the text is made; the options are those of `generate`."""
        pieces = stream_text(self.stepper(precision), self.require_tokenizer(), prompt, **options)
        yield from pieces_of(self, pieces)

    def stepper(self, precision: StepPrecision = "float32") -> PackedDecoder:
        """What texts are continued with: the decoder with its weights laid out for steps.

        Raises ValueError for an unknown precision.
        """
        if precision not in STEP_TYPES:
            raise ValueError(f"precision is {precision}, but must be one of {', '.join(STEP_TYPES)}")
        return PackedDecoder(self.decoder, STEP_TYPES[precision])
