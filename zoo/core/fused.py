"""Whole sequences of the classic cells, by PyTorch's own kernels where there are good ones.

On a GPU these are cuDNN's; on a CPU `torch.lstm` is oneDNN's fused kernel, in float32 and bfloat16, as long as its
input is padded, and the RNN, the GRU and some large LSTMs are our own (`rnn.py`, `gru.py`, `lstm.py`). `PackedSequence`
would leave that kernel for a loop over steps several times slower, so ragged rows run padded here and their padding is
made harmless instead. The kernels' argument `train` is whether there will be a backward pass: cuDNN keeps what that
needs only if so.
"""

import torch
from torch import Tensor

from zoo.core.gru import gru_scan
from zoo.core.lstm import lstm_scan, scan_is_quicker
from zoo.core.padding import padding_mask
from zoo.core.products import linear
from zoo.core.rnn import rnn_scan
from zoo.core.state import State
from zoo.core.weights import CellWeights

# sigmoid(±SATURATED) is exactly 1 or 0 in every float type.
SATURATED = 1e4


def rnn_sequence(x: Tensor, state: State, weights: CellWeights, lengths: Tensor | None) -> tuple[Tensor, State]:
    """x (B, T, I), state ((B, H),) -> outputs (B, T, H), state. See `rnn_step` for the equations."""
    start = state[0].to(x.dtype).contiguous()
    ih, hh, bias_ih, bias_hh = _flat(weights)
    if x.device.type == "cpu":
        products = linear(x.transpose(0, 1).contiguous(), ih, bias_ih + bias_hh)
        outputs = rnn_scan(products, start, hh).transpose(0, 1)
    else:
        train = torch.is_grad_enabled()
        outputs, _ = torch.rnn_tanh(x, start[None], [ih, hh, bias_ih, bias_hh], True, 1, 0.0, train, False, True)
    return outputs, (outputs[:, -1] if lengths is None else last_outputs(outputs, lengths),)


def gru_sequence(x: Tensor, state: State, weights: CellWeights, lengths: Tensor | None) -> tuple[Tensor, State]:
    """x (B, T, I), state ((B, H),) -> outputs (B, T, H), state. See `gru_step` for the equations."""
    start = state[0].to(x.dtype).contiguous()
    ih, hh, bias_ih, bias_hh = _flat(weights)
    if x.device.type == "cpu":
        gates = 2 * start.shape[1]  # whose two biases are added up beforehand
        bias = torch.cat([bias_ih[:gates] + bias_hh[:gates], bias_ih[gates:]])
        products = linear(x.transpose(0, 1).contiguous(), ih, bias)
        outputs = gru_scan(products, start, hh, bias_hh[gates:]).transpose(0, 1)
    else:
        train = torch.is_grad_enabled()
        outputs, _ = torch.gru(x, start[None], [ih, hh, bias_ih, bias_hh], True, 1, 0.0, train, False, True)
    return outputs, (outputs[:, -1] if lengths is None else last_outputs(outputs, lengths),)


def lstm_sequence(x: Tensor, state: State, weights: CellWeights, lengths: Tensor | None) -> tuple[Tensor, State]:
    """x (B, T, I), state ((B, H), (B, H)) -> outputs (B, T, H), state. See `lstm_step` for the equations.

    The kernel returns every step's output but only the last step's cell. A ragged row's cell is carried through
    its padding unchanged: one more input feature, 1 in padding, shuts the input gate and opens the forget gate
    fully, so that c' = 1·c + 0 exactly and gradients pass as they are.
    """
    ih, hh, bias_ih, bias_hh = _flat(weights)
    if lengths is not None:
        x = torch.cat([x, padding_mask(lengths, x.shape[1])[..., None].to(x.dtype)], dim=-1)
        # Blocks i, f, g, o, filled on the device: to copy numbers there, it would be waited for.
        size = hh.shape[1]
        hold = [ih.new_full((size, 1), -SATURATED), ih.new_full((size, 1), SATURATED), ih.new_zeros(2 * size, 1)]
        ih = torch.cat([ih, torch.cat(hold)], dim=1)
    h, c = (part.to(x.dtype).contiguous() for part in state)
    if scan_is_quicker(x, hh.shape[1]):
        products = linear(x.transpose(0, 1).contiguous(), ih, bias_ih + bias_hh)
        outputs, c = lstm_scan(products, h, c, hh)
        outputs = outputs.transpose(0, 1)
    else:
        weight, train = [ih, hh, bias_ih, bias_hh], torch.is_grad_enabled()
        outputs, _, last = torch.lstm(x, (h[None], c[None]), weight, True, 1, 0.0, train, False, True)
        c = last[0]
    return outputs, (outputs[:, -1] if lengths is None else last_outputs(outputs, lengths), c)


def last_outputs(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Each row's output at its own last step: (B, T, H), (B,) -> (B, H)."""
    index = (lengths - 1)[:, None, None].expand(-1, 1, outputs.shape[2])
    return outputs.gather(1, index).squeeze(1)


def _flat(weights: CellWeights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    assert weights.hh is not None and weights.bias_hh is not None
    return weights.ih, weights.hh, weights.bias_ih, weights.bias_hh
