"""What can be done with a recurrent state, whatever the cell.

A state is a value: a plain tuple of tensors, each of shape (L·D, B, H) as in `torch.nn`, with the batch on dim 1.
Beam search, truncated BPTT and batching need only these functions.
"""

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def reorder(state: State, index: Tensor) -> State:
    """Pick rows of the batch: row n of the result is row `index[n]` of `state`. `index` is (N,), int64."""
    return tuple(part.index_select(1, index) for part in state)


def detach(state: State) -> State:
    """The same numbers cut off from the graph: where truncated backpropagation through time stops."""
    return tuple(part.detach() for part in state)


def replace_rows(state: State, rows: Tensor, other: State) -> State:
    """`other` where `rows` (B,), bool, is True, and `state` elsewhere."""
    return tuple(
        torch.where(rows.view(1, -1, *[1] * (part.ndim - 2)), new.to(part.dtype), part)
        for part, new in zip(state, other, strict=True)
    )
