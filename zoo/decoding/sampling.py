"""From a decoder's next-step scores to sequences, a token a row at a time."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from zoo.core.state import State, reorder
from zoo.decoding.filters import SamplingOptions, choose


class Stepper(Protocol):
    """What decoding needs of a decoder."""

    def prefill(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """Prompts (B, T) padded on the right, lengths (B,) -> logits (B, V) of what follows, state."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Tokens (B,), state -> logits (B, V), state."""


class Sampler:
    """Draws tokens for several prompts at once, one step at each `next`; a caller may end rows in between.

    A row's tokens depend on its prompt, the options and its own random numbers, and on no other row.

    Args:
        decoder: anything with `prefill` and `step`.
        prompts: N prompts of token ids, each of at least one token.
        options: how tokens are chosen.
        seeds: a row's random numbers follow from its seed alone.
        banned: token ids that are never chosen.
        device: where the decoder is.

    Raises:
        ValueError: an empty prompt.
    """

    def __init__(
        self,
        decoder: Stepper,
        prompts: list[list[int]],
        options: SamplingOptions,
        seeds: list[int],
        banned: list[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not all(prompts):
            raise ValueError("a prompt has no token; at least one must stand before what is to follow")
        self.decoder = decoder
        self.options = options
        self.banned = torch.tensor(banned or [], dtype=torch.long, device=device)
        self.rows = list(range(len(prompts)))  # which prompt each row of the batch belongs to
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        tokens = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        tokens, lengths = tokens.to(device), lengths.to(device)
        self.logits, self.state = decoder.prefill(tokens, lengths)
        self.seen: Tensor | None = None
        if options.repetition_penalty != 1:
            # Padding repeats the row's first token, which stands in the row anyway.
            inside = torch.arange(tokens.shape[1], device=device) < lengths[:, None]
            self.seen = torch.zeros_like(self.logits, dtype=torch.bool)
            self.seen.scatter_(1, torch.where(inside, tokens, tokens[:, :1]), True)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yields (prompt number, token) of every row that goes on; ends when `end` has ended all."""
        while self.rows:
            logits = self.logits
            if len(self.banned):
                logits = logits.index_fill(1, self.banned, -torch.inf)
            uniform = torch.zeros(len(self.rows), dtype=torch.float64)
            if self.options.temperature > 0:
                for row, prompt in enumerate(self.rows):
                    uniform[row] = torch.rand((), generator=self.generators[prompt], dtype=torch.float64)
            chosen = choose(logits, self.options, uniform, self.seen)
            if self.seen is not None:
                self.seen.scatter_(1, chosen[:, None], True)
            before = self.rows
            yield list(zip(before, chosen.tolist(), strict=True))
            if not self.rows:
                return
            if len(self.rows) < len(before):
                places = {row: place for place, row in enumerate(before)}
                index = torch.tensor([places[row] for row in self.rows], device=chosen.device)
                chosen, self.state = chosen[index], reorder(self.state, index)
                self.seen = None if self.seen is None else self.seen[index]
            self.logits, self.state = self.decoder.step(chosen, self.state)

    def end(self, prompt: int) -> None:
        """Take a prompt's row out of the batch; call between two steps."""
        self.rows = [row for row in self.rows if row != prompt]
