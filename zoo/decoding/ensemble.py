"""Several decoders that write one sequence together, or one decoder from several views of what it describes."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.core.state import State
from zoo.decoding.beam import BeamDecoder, DecoderMemory


class Start(NamedTuple):
    """What one member of an ensemble brings: itself, its logits (B, V) of the first new token, its state of B rows, and
    its memory, or None."""

    decoder: BeamDecoder
    logits: Tensor
    state: State
    memory: DecoderMemory | None


class EnsembleMemory(NamedTuple):
    """The members' memories, one each."""

    memories: tuple[DecoderMemory | None, ...]

    def rows(self, index: Tensor) -> "EnsembleMemory":
        """Row n of each becomes its row `index[n]`; `index` is (N,), int64."""
        return EnsembleMemory(tuple(None if memory is None else memory.rows(index) for memory in self.memories))


class EnsembleDecoder:
    """What `beam_search` needs of several decoders that write one sequence: p(token) is the mean of the members'.

    Args:
        members: one or more, with the same vocabulary.
        weights: of each in the mean, of sum 1; None for the same for all.

    Attributes:
        logits, state, memory: those of all, for `beam_search`. The state is the members', one after the other.
    """

    def __init__(self, members: Sequence[Start], weights: Sequence[float] | None = None) -> None:
        self._weights = [1 / len(members)] * len(members) if weights is None else weights
        self._decoders = [member.decoder for member in members]
        self._ends = list(accumulate(len(member.state) for member in members))
        self.logits = _mean_probability([member.logits for member in members], self._weights)
        self.state: State = tuple(part for member in members for part in member.state)
        self.memory = EnsembleMemory(tuple(member.memory for member in members))

    def step(self, tokens: Tensor, state: State, memory: Any) -> tuple[Tensor, State]:
        """Tokens (N,), state, an `EnsembleMemory` -> logits (N, V), state."""
        scores: list[Tensor] = []
        following: list[Tensor] = []
        for decoder, end, its in zip(self._decoders, self._ends, memory.memories, strict=True):
            own = state[len(following) : end]
            logits, own = decoder.step(tokens, own) if its is None else decoder.step(tokens, own, its)
            scores.append(logits)
            following += own
        return _mean_probability(scores, self._weights), tuple(following)


def _mean_probability(logits: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Logits of the weighted mean of the probabilities that each of these logits (N, V) gives."""
    if len(logits) == 1:
        return logits[0]
    scores = [
        torch.log_softmax(one.float(), dim=-1) + math.log(weight) for one, weight in zip(logits, weights, strict=True)
    ]
    return torch.logsumexp(torch.stack(scores), dim=0)
