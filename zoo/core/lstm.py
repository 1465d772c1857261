"""The LSTM over whole sequences on a CPU, for sizes whose weights oneDNN's own kernel is slow to multiply with.

As in the GRU (`gru.py`), all that does not wait for the last step is done for all steps at once: the inputs' products
before the loop, the factors that the gates put on the gradients and the weights' gradient after it.
"""

from typing import Any

import torch
from torch import Tensor

from zoo.core.gru import CHUNK_ELEMENTS
from zoo.core.packed import packed_for_steps
from zoo.core.products import onednn_is_quicker, weight_gradient

# From this H on the scan is quicker than `torch.lstm`, which has oneDNN's kernel; measured on AMD's processors alone.
SCAN_SIZE = {torch.bfloat16: 768}


def scan_is_quicker(x: Tensor, hidden_size: int) -> bool:
    """Whether `lstm_scan` is to be taken for inputs as x, rather than `torch.lstm`."""
    size = SCAN_SIZE.get(x.dtype)
    if size is None or hidden_size < size or x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return onednn_is_quicker()


def lstm_scan(products: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """i, f, o = σ(p + h Uᵀ);  g = tanh(p_g + h U_gᵀ);  c' = f·c + i·g;  h' = o·tanh(c').

    Args:
        products: (T, B, 4·H), the inputs' part p of the blocks i, f, g, o, with all biases.
        h: (B, H), before the first step.
        c: (B, H), the same.
        weight: (4·H, H), U.

    Returns:
        (T, B, H), every step's h, and (B, H), the last step's c.
    """
    return _LSTMScan.apply(products, h, c, weight)


class _LSTMScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, products: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        steps, batch, size = len(products), *h.shape
        packed = packed_for_steps(weight, None, h)
        gates = torch.empty_like(products)
        squashed = products.new_empty(steps, batch, size)  # tanh c
        states, cells = (products.new_empty(steps + 1, batch, size) for _ in range(2))
        states[0], cells[0] = h, c
        for t, (p, gate) in enumerate(zip(products, gates, strict=True)):
            if packed is None:
                torch.addmm(p, states[t], weight.T, out=gate)
            else:
                torch.add(p, packed(states[t]), out=gate)
            i_and_f, g, o = gate.split([2 * size, size, size], dim=1)
            i_and_f.sigmoid_()
            i, f = i_and_f.split(size, dim=1)
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g.tanh_())
            torch.mul(o.sigmoid_(), torch.tanh(cells[t + 1], out=squashed[t]), out=states[t + 1])
        ctx.save_for_backward(weight, gates, squashed, states, cells)
        return states[1:], cells[-1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, last_grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weight, gates, squashed, states, cells = ctx.saved_tensors
        steps, batch, size = squashed.shape
        packed = packed_for_steps(weight.T, None, states[0])
        blocks = gates.new_empty(steps, batch, 4, size)  # the gradient of the products
        from_later, c_grad = torch.zeros_like(states[0]), last_grad
        for stop in range(steps, 0, -(chunk := max(1, CHUNK_ELEMENTS // (batch * size)))):
            here = slice(max(0, stop - chunk), stop)
            i, f, g, o = gates[here].split(size, dim=-1)
            # How the gradients of c' (of i, f and g) and of h' (of o) become those of the four blocks.
            factors = blocks[here]
            factors[:, :, 0] = torch.ops.aten.sigmoid_backward(g, i)
            factors[:, :, 1] = torch.ops.aten.sigmoid_backward(cells[here], f)
            factors[:, :, 2] = torch.ops.aten.tanh_backward(i, g)
            factors[:, :, 3] = torch.ops.aten.sigmoid_backward(squashed[here], o)
            to_cell = torch.ops.aten.tanh_backward(o, squashed[here])
            for t in range(stop - 1, here.start - 1, -1):
                dh = grad[t] + from_later
                dc = torch.addcmul(c_grad, dh, to_cell[t - here.start])
                blocks[t, :, :3] *= dc[:, None]
                blocks[t, :, 3] *= dh
                block = blocks[t].view(batch, -1)
                from_later = block @ weight if packed is None else packed(block)
                c_grad = dc.mul_(gates[t, :, size : 2 * size])
        weight_grad = weight_gradient(blocks.flatten(0, 1).flatten(1), states[:-1].flatten(0, 1))
        return blocks.flatten(2), from_later, c_grad, weight_grad
