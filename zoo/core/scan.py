"""Whole sequences of the cells whose gates do not look at the last state, in parallel over time.

Every product is done for all steps at once. What is left is h[t] = h[t-1] + z[t]·(candidate[t] - h[t-1]), a linear
recurrence in h, done in float32 whatever the products' precision: in bfloat16 a step with a small z would
round away, and the loss would grow with the length. Its terms are products of numbers in [0, 1], never quotients
or logarithms, so it is exact to rounding at any length.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.fused import last_outputs
from zoo.core.state import State
from zoo.core.weights import CellWeights


def mingru_sequence(x: Tensor, state: State, weights: CellWeights, lengths: Tensor | None) -> tuple[Tensor, State]:
    """x (B, T, I), state ((B, H),) -> outputs (B, T, H), state. See `mingru_step` for the equations."""
    candidate, z = F.linear(x, weights.ih, weights.bias_ih).float().chunk(2, dim=-1)
    return _scan_and_finish(candidate, torch.sigmoid(z), state, lengths, x.dtype)


def minlstm_sequence(x: Tensor, state: State, weights: CellWeights, lengths: Tensor | None) -> tuple[Tensor, State]:
    """x (B, T, I), state ((B, H),) -> outputs (B, T, H), state. See `minlstm_step` for the equations."""
    candidate, i, f = F.linear(x, weights.ih, weights.bias_ih).float().chunk(3, dim=-1)
    return _scan_and_finish(candidate, _minlstm_share(i, f), state, lengths, x.dtype)


def _minlstm_share(i: Tensor, f: Tensor) -> Tensor:
    """σ(i) / (σ(i) + σ(f)), written so that it is finite however far below zero both are."""
    return torch.sigmoid(F.logsigmoid(i) - F.logsigmoid(f))


def lerp_scan(candidate: Tensor, z: Tensor, initial: Tensor) -> Tensor:
    """h[t] = (1 - z[t])·h[t-1] + z[t]·candidate[t] for every t.

    Args:
        candidate: (B, T, H).
        z: (B, T, H), each in [0, 1].
        initial: (B, H), h before the first step.

    Returns:
        (B, T, H), every step's h.
    """
    result: Tensor = _LerpScan.apply(candidate, z, initial)  # type: ignore[no-untyped-call]
    return result


class _LerpScan(torch.autograd.Function):
    """The scan with its gradient, which is the same recurrence run backward.

    Autograd's own graph would hold a node a step; this keeps three (B, T, H) tensors.
    """

    @staticmethod
    def forward(ctx: Any, candidate: Tensor, z: Tensor, initial: Tensor) -> Tensor:
        h = _scan_tree(1 - z, z * candidate, initial) if z.is_cuda else _lerp_loop(candidate, z, initial)
        ctx.save_for_backward(candidate, z, initial, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        candidate, z, initial, h = ctx.saved_tensors
        keep = 1 - z
        # What reaches h[t]: its own output's gradient and, through step t + 1, keep[t+1] of what reaches h[t+1].
        reaching = _scan_backward(keep, grads[0])
        previous = torch.cat([initial[:, None], h[:, :-1]], dim=1)
        return reaching * z, reaching * (candidate - previous), reaching[:, 0] * keep[:, 0]


def _lerp_loop(candidate: Tensor, z: Tensor, initial: Tensor) -> Tensor:
    outputs = torch.empty_like(z)
    h = initial
    for end, weight, out in zip(candidate.unbind(1), z.unbind(1), outputs.unbind(1), strict=True):
        h = torch.lerp(h, end, weight, out=out)
    return outputs


def _scan_backward(keep: Tensor, grad: Tensor) -> Tensor:
    if grad.is_cuda:
        shifted = torch.cat([torch.zeros_like(keep[:, :1]), keep[:, 1:].flip(1)], dim=1)
        return _scan_tree(shifted, grad.flip(1), torch.zeros_like(grad[:, 0])).flip(1)
    reaching = grad.clone(memory_format=torch.contiguous_format)
    steps, keeps = reaching.unbind(1), keep.unbind(1)
    for t in range(len(steps) - 2, -1, -1):
        steps[t].addcmul_(keeps[t + 1], steps[t + 1])
    return reaching


def _scan_tree(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    """h[t] = a[t]·h[t-1] + b[t] in about 2·log2(T) rounds over shrinking tensors: few launches for a GPU.

    Two steps in a row are one step of the same kind, so pairs are joined, the half-length scan is solved, and the
    steps between are filled in (cyclic reduction; Blelloch, "Prefix sums and their applications", 1990).
    """
    steps = b.shape[1]
    if steps == 1:
        return torch.addcmul(b, a, initial[:, None])
    first_a, second_a = a[:, 0 : steps - 1 : 2], a[:, 1::2]
    first_b, second_b = b[:, 0 : steps - 1 : 2], b[:, 1::2]
    odd = _scan_tree(second_a * first_a, torch.addcmul(second_b, second_a, first_b), initial)
    h = torch.empty_like(b)
    h[:, 1::2] = odd
    before = torch.cat([initial[:, None], odd], dim=1)[:, : (steps + 1) // 2]
    h[:, 0::2] = torch.addcmul(b[:, 0::2], a[:, 0::2], before)
    return h


def _scan_and_finish(
    candidate: Tensor, z: Tensor, state: State, lengths: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, State]:
    h = lerp_scan(candidate, z, state[0].float())
    return h.to(dtype), (h[:, -1] if lengths is None else last_outputs(h, lengths),)
