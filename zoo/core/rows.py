"""Putting rows of a batch, or the steps within them, into another order and back."""

from typing import Any

import torch
from torch import Tensor


def permute(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """`x[index]`, whose gradient is picked by `inverse` as fast, where autograd would add up what is picked twice.

    Args:
        x: (N, ...).
        index: (N,), int64, each of 0 to N - 1 once.
        inverse: (N,), such that `x[index][inverse]` is x.
    """
    return _Permuted.apply(x, index, inverse)


class _Permuted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(index, inverse)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        return permute(grad, inverse, index), None, None


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn each row round within its own length: (B, T, H) -> (B, T, H). Padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    rows, steps = (torch.arange(size, device=x.device) for size in x.shape[:2])
    turned = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    index = (rows[:, None] * x.shape[1] + turned).flatten()
    return permute(x.flatten(0, 1), index, index).view_as(x)
