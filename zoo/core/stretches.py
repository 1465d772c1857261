"""Ragged rows in stretches of steps, each with the rows that still go on, so that little of the work is on padding.

Rows are sorted, longest first: those that go on are then the first ones, and a stretch is a plain rectangle of (rows,
steps). What is padding within one is behind the rows that end there.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.state import State
from zoo.core.weights import CellWeights

# Another stretch is another call of the kernel and another addend of the weights' gradient. It has to save so many
# steps of one row, and such a share of what it is cut from.
LEAST_SAVED = 256
LEAST_SHARE = 1 / 16

SequenceFunction = Callable[[Tensor, State, CellWeights, Tensor | None], tuple[Tensor, State]]


class Stretch(NamedTuple):
    """Steps `start` to `stop` of the first so many rows; `ragged` if not all of these go on to `stop`."""

    start: int
    stop: int
    rows: int
    ragged: bool


def plan_stretches(lengths: Sequence[int], steps: int) -> list[Stretch]:
    """Rows' lengths, longest first, and T -> stretches, one behind the other, from 0 to T; the last may have no row."""
    return _cut(lengths, 0, steps, len(lengths))


def _cut(lengths: Sequence[int], start: int, stop: int, rows: int) -> list[Stretch]:
    """Cuts where that saves most, and then both parts again, as long as it is worth it."""
    if rows == 0:
        return [Stretch(start, stop, 0, False)]
    # Where row n ends there are n rows left.
    saved, left = max(((stop - lengths[row]) * (rows - row), row) for row in range(rows))
    if saved < max(LEAST_SAVED, LEAST_SHARE * rows * (stop - start)):
        return [Stretch(start, stop, rows, lengths[rows - 1] < stop)]
    end = lengths[left]
    return _cut(lengths, start, end, rows) + _cut(lengths, end, stop, left)


def run_in_stretches(
    sequence: SequenceFunction,
    x: Tensor,
    state: State,
    weights: CellWeights,
    lengths: Tensor,
    stretches: Sequence[Stretch],
) -> tuple[Tensor, State]:
    """What `sequence(x, state, weights, lengths)` returns, for rows sorted by their lengths, longest first.

    Args:
        sequence: a cell's.
        x: (B, T, I).
        state: tensors (B, H).
        weights: the layer's.
        lengths: (B,), int64.
        stretches: those planned for these lengths.
    """
    outputs: list[Tensor] = []
    ended: list[State] = []  # of the rows that go no further than a stretch
    for start, stop, rows, ragged in stretches:
        if outputs:
            ended.append(tuple(part[rows:] for part in state))
        state = tuple(part[:rows] for part in state)
        if rows:
            here = (lengths[:rows] - start).clamp(max=stop - start) if ragged else None
            y, state = sequence(x[:rows, start:stop], state, weights, here)
        else:
            y = outputs[-1].new_zeros(0, stop - start, outputs[-1].shape[2])
        outputs.append(F.pad(y, (0, 0, 0, 0, 0, len(x) - rows)))
    ended.append(state)
    return torch.cat(outputs, dim=1), tuple(torch.cat(parts) for parts in zip(*reversed(ended), strict=True))
