"""The cells: each one's equations as a few plain lines for one step, and the registry that names them.

A cell's plain step is its definition. The fast paths over whole sequences (`fused.py`, `scan.py`) are tested
against it. Every cell's output is the first part of its state.

Shapes: B batch, I input size, H hidden size, G gates (blocks of H rows in a weight).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.core.fused import gru_sequence, lstm_sequence, rnn_sequence
from zoo.core.scan import TINY, mingru_sequence, minlstm_sequence
from zoo.core.state import State
from zoo.core.weights import CellWeights, Products


@dataclass(frozen=True)
class Cell:
    """A recurrent cell.

    Attributes:
        name: what `cell=` calls it.
        gates: blocks of H rows in its weights.
        state_parts: tensors in its state.
        recurrent_weights: whether it has `weight_hh` (a product with the last state).
        forget_gate: which block is the forget gate, None where there is none.
        step: (x (B, I), state of (B, H) tensors, weights) -> new state; the plain twin.
        sequence: (x (B, T, I), state, weights, lengths (B,) or None) -> outputs (B, T, H), final state. At and after
            a row's length its outputs are unspecified (the core sets them to zero); the final state is that of
            the row's own last step.
        by_rows: whether a step takes longer the more rows it has. On a CPU ragged rows then run in stretches of steps,
            each with the rows that still go on; see `zoo.core.stretches`.
    """

    name: str
    gates: int
    state_parts: int
    recurrent_weights: bool
    forget_gate: int | None
    step: Callable[[Tensor, State, Products], State]
    sequence: Callable[[Tensor, State, CellWeights, Tensor | None], tuple[Tensor, State]]
    by_rows: bool


def rnn_step(x: Tensor, state: State, weights: Products) -> State:
    """Elman, "Finding structure in time", 1990: h' = tanh(W x + b + U h + c)."""
    h = state[0].to(x.dtype)
    return (torch.tanh(weights.input_product(x) + weights.state_product(h)),)


def lstm_step(x: Tensor, state: State, weights: Products) -> State:
    """Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000. Blocks: i, f, g, o.

    c' = σ(f)·c + σ(i)·tanh(g);  h' = σ(o)·tanh(c')
    """
    h, c = (part.to(x.dtype) for part in state)
    i, f, g, o = (weights.input_product(x) + weights.state_product(h)).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(x: Tensor, state: State, weights: Products) -> State:
    """Cho et al., 2014, in the form of `torch.nn.GRU` (the reset gate acts after the product). Blocks: r, z, n.

    n' = tanh(n_x + σ(r)·n_h);  h' = (1 - σ(z))·n' + σ(z)·h
    """
    h = state[0].to(x.dtype)
    r_x, z_x, n_x = weights.input_product(x).chunk(3, dim=-1)
    r_h, z_h, n_h = weights.state_product(h).chunk(3, dim=-1)
    n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
    z = torch.sigmoid(z_x + z_h)
    return ((1 - z) * n + z * h,)


def mingru_step(x: Tensor, state: State, weights: Products) -> State:
    """Feng et al., "Were RNNs all we needed?", 2024, section 3.1. Blocks: candidate, z. State at least in float32.

    h' = (1 - σ(z))·h + σ(z)·candidate
    """
    h, products = _at_least_float32(state[0], weights.input_product(x))
    candidate, z = products.chunk(2, dim=-1)
    z = torch.sigmoid(z)
    return ((1 - z) * h + z * candidate,)


def minlstm_step(x: Tensor, state: State, weights: Products) -> State:
    """Feng et al., 2024, section 3.2: gates made to sum to one. Blocks: candidate, i, f. State at least in float32.

    i' = σ(i) / (σ(i) + σ(f));  h' = (1 - i')·h + i'·candidate
    """
    h, products = _at_least_float32(state[0], weights.input_product(x))
    candidate, i, f = products.chunk(3, dim=-1)
    i, f = torch.sigmoid(i), torch.sigmoid(f)
    share = i / (i + f + TINY)
    return ((1 - share) * h + share * candidate,)


def _at_least_float32(h: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(products.dtype, torch.float32)
    return h.to(dtype), products.to(dtype)


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("rnn", 1, 1, True, None, rnn_step, rnn_sequence, True),
        Cell("lstm", 4, 2, True, 1, lstm_step, lstm_sequence, True),
        Cell("gru", 3, 1, True, None, gru_step, gru_sequence, True),
        Cell("mingru", 2, 1, False, None, mingru_step, mingru_sequence, False),
        Cell("minlstm", 3, 1, False, 2, minlstm_step, minlstm_sequence, False),
    )
}


def get_cell(name: str) -> Cell:
    """The cell of that name. Raises ValueError, with the names there are, for any other."""
    if name not in CELLS:
        raise ValueError(f"cell is {name!r}, but must be one of {', '.join(CELLS)}")
    return CELLS[name]
