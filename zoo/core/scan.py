"""Whole sequences of the cells whose gates do not look at the last state, in parallel over time.

Every product is done for all steps at once. What is left is h[t] = h[t-1] + z[t]·(candidate[t] - h[t-1]), a linear
recurrence in h, done in float32 whatever the products' precision: in bfloat16 a step with a small z would
round away, and the loss would grow with the length. Its terms are products of numbers in [0, 1], never quotients
or logarithms of them, so it is exact to rounding at any length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.core.padding import padding_mask
from zoo.core.products import linear
from zoo.core.state import State
from zoo.core.weights import CellWeights

# What a chunk of steps takes on a CPU: small enough that its gates, scan and gradients stay in the cache between
# one pointwise operation and the next; these cells are bound by memory traffic, not by arithmetic.
CHUNK_ELEMENTS = 2**20

# Keeps two gates that both underflow from making 0 / 0; next to nothing beside any that do not (σ(-80) is 2e-35).
TINY = 1e-37


class Gates(NamedTuple):
    """A cell's pointwise part, forward and back. Blocks, z (in [0, 1]) and gradients share one shape.

    Attributes:
        forward: the blocks but the candidate -> z, and what backward needs beside it.
        backward: the gradient of z's log-odds, and what forward kept -> the gradients of the same blocks.
    """

    forward: Callable[..., tuple[Tensor, ...]]
    backward: Callable[..., tuple[Tensor, ...]]


def _mingru_forward(z: Tensor) -> tuple[Tensor, ...]:
    return (z.sigmoid(),)


def _mingru_backward(odds_grad: Tensor) -> tuple[Tensor, ...]:
    return (odds_grad,)


def _minlstm_forward(i: Tensor, f: Tensor) -> tuple[Tensor, ...]:
    i, f = torch.sigmoid(i), torch.sigmoid(f)
    return i / (i + f).add_(TINY), i, f


def _minlstm_backward(odds_grad: Tensor, i: Tensor, f: Tensor) -> tuple[Tensor, ...]:
    # The log-odds of i / (i + f) are log i - log f, and log σ has the derivative 1 - σ.
    return torch.addcmul(odds_grad, odds_grad, i, value=-1), (odds_grad * f).sub_(odds_grad)


MINGRU = Gates(_mingru_forward, _mingru_backward)
MINLSTM = Gates(_minlstm_forward, _minlstm_backward)


def mingru_sequence(x: Tensor, state: State, weights: CellWeights, lengths: Tensor | None) -> tuple[Tensor, State]:
    """x (B, T, I), state ((B, H),) -> outputs (B, T, H), state. See `mingru_step` for the equations."""
    return _sequence(x, state, weights, lengths, MINGRU)


def minlstm_sequence(x: Tensor, state: State, weights: CellWeights, lengths: Tensor | None) -> tuple[Tensor, State]:
    """x (B, T, I), state ((B, H),) -> outputs (B, T, H), state. See `minlstm_step` for the equations."""
    return _sequence(x, state, weights, lengths, MINLSTM)


def _sequence(
    x: Tensor, state: State, weights: CellWeights, lengths: Tensor | None, gates: Gates
) -> tuple[Tensor, State]:
    inside = None if lengths is None else ~padding_mask(lengths, x.shape[1])[..., None]
    products = linear(x, weights.ih, weights.bias_ih)
    outputs, last = gated_scan(gates, products, state[0].to(torch.promote_types(x.dtype, torch.float32)), inside)
    return outputs, (last,)


def gated_scan(gates: Gates, products: Tensor, initial: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h[t] = (1 - z[t])·h[t-1] + z[t]·candidate[t] for every t, with candidate and z from `gates`.

    Args:
        gates: what makes candidate and z of the products.
        products: (B, T, G·H), the G blocks side by side.
        initial: (B, H), h before the first step, in the type to compute in.
        inside: (B, T, 1), bool; where False, h stays as it is. None where every row has T steps.

    Returns:
        (B, T, H), every step's h in the type of `products`, and (B, H), the last h in the type of `initial`.
    """
    return _GatedScan.apply(gates, products, initial, inside)


class _GatedScan(torch.autograd.Function):
    """The scan with its gradient, which is the same recurrence run backward.

    Autograd's own graph would hold a node a step. This keeps the products and every h, and makes the gates anew.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Gates, products: Tensor, initial: Tensor, inside: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        batch, steps, _ = products.shape
        outputs = products.new_empty(batch, steps, initial.shape[1])
        states = initial.new_empty(steps + 1, *initial.shape)
        states[0] = initial
        for start, stop in _chunks(products):
            candidate, *others = _blocks(products, initial, start, stop)
            z = _open(gates.forward(*others)[0], inside, start)
            h = _scan(candidate, z, states[start], states[start + 1 : stop + 1])
            outputs[:, start:stop] = h.transpose(0, 1)
        ctx.gates = gates
        ctx.save_for_backward(products, inside, states)
        return outputs, states[-1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, last_grad: Tensor) -> tuple[None, Tensor, Tensor, None]:
        products, inside, states = ctx.saved_tensors
        hidden_size = states.shape[2]
        products_grad = torch.empty_like(products)
        from_later = last_grad  # what reaches a chunk's last h from the steps after it
        for start, stop in reversed(_chunks(products)):
            z, *kept = ctx.gates.forward(*_blocks(products, states, start, stop, first=1))
            open_z = _open(z, inside, start)
            keep = 1 - open_z
            reaching = _scan_backward(keep, _time_major(grad, states, start, stop), from_later)
            passed = keep.mul_(reaching)
            from_later = passed[0]
            # h changes by z·(candidate - h[t-1]), and z by z·(1 - z) times what its log-odds change by.
            odds_grad = (states[start + 1 : stop + 1] - states[start:stop]).mul_(passed)
            grads = (reaching.mul_(open_z), *ctx.gates.backward(odds_grad, *kept))
            for number, block_grad in enumerate(grads):
                columns = slice(number * hidden_size, (number + 1) * hidden_size)
                products_grad[:, start:stop, columns] = block_grad.transpose(0, 1)
        return None, products_grad, from_later, None


def _time_major(x: Tensor, like: Tensor, start: int, stop: int) -> Tensor:
    """Steps `start` to `stop` of (B, T, H) as a new (K, B, H), each step in one piece, in the type of `like`."""
    return torch.empty((stop - start, x.shape[0], x.shape[2]), dtype=like.dtype, device=like.device).copy_(
        x[:, start:stop].transpose(0, 1)
    )


def _blocks(products: Tensor, like: Tensor, start: int, stop: int, first: int = 0) -> list[Tensor]:
    """The blocks of steps `start` to `stop` from number `first` on, each (K, B, H)."""
    return [_time_major(block, like, start, stop) for block in products.split(like.shape[-1], dim=-1)[first:]]


def _open(z: Tensor, inside: Tensor | None, start: int) -> Tensor:
    """z (K, B, H) of the steps from `start` on, 0 where these are not inside."""
    return z if inside is None else z * inside[:, start : start + len(z)].transpose(0, 1)


def _chunks(products: Tensor) -> list[tuple[int, int]]:
    """The steps in stretches (start, stop); on a GPU one stretch, for few launches."""
    steps = products.shape[1]
    size = steps if products.device.type != "cpu" else max(1, CHUNK_ELEMENTS // (products.shape[0] * products.shape[2]))
    return [(start, min(start + size, steps)) for start in range(0, steps, size)]


def _scan(candidate: Tensor, z: Tensor, initial: Tensor, outputs: Tensor) -> Tensor:
    """Every step's h, written to `outputs`; all (K, B, H) but `initial`."""
    if z.device.type != "cpu":
        return outputs.copy_(_scan_tree(1 - z, z * candidate, initial))
    h = initial
    for end, weight, out in zip(candidate, z, outputs, strict=True):
        h = torch.lerp(h, end, weight, out=out)
    return outputs


def _scan_backward(keep: Tensor, reaching: Tensor, from_later: Tensor) -> Tensor:
    """From each step's own gradient to all that reaches it: g[t] += keep[t+1]·g[t+1], from the end on.

    `from_later` (B, H) is what reaches the last step beside its own gradient; `reaching` is used up.
    """
    reaching[-1] += from_later
    if reaching.device.type != "cpu":
        shifted = torch.cat([torch.zeros_like(keep[:1]), keep[1:].flip(0)])
        return _scan_tree(shifted, reaching.flip(0), torch.zeros_like(reaching[0])).flip(0)
    steps, keeps = reaching.unbind(0), keep.unbind(0)
    for t in range(len(steps) - 2, -1, -1):
        steps[t].addcmul_(keeps[t + 1], steps[t + 1])
    return reaching


def _scan_tree(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    """h[t] = a[t]·h[t-1] + b[t] in about 2·log2(T) rounds over shrinking tensors: few launches for a GPU.

    Two steps in a row are one step of the same kind, so pairs are joined, the half-length scan is solved, and the
    steps between are filled in (cyclic reduction; Blelloch, "Prefix sums and their applications", 1990).
    """
    steps = len(b)
    if steps == 1:
        return torch.addcmul(b, a, initial)
    first_a, second_a = a[0 : steps - 1 : 2], a[1::2]
    first_b, second_b = b[0 : steps - 1 : 2], b[1::2]
    odd = _scan_tree(second_a * first_a, torch.addcmul(second_b, second_a, first_b), initial)
    h = torch.empty_like(b)
    h[1::2] = odd
    before = torch.cat([initial[None], odd])[: (steps + 1) // 2]
    h[0::2] = torch.addcmul(b[0::2], a[0::2], before)
    return h
