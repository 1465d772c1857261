"""The Elman cell over whole sequences on a CPU, where PyTorch's own has several operations and a node a step.

As in the GRU (`gru.py`), all that does not wait for the last step is done for all steps at once: the inputs' products
before the loop and the weights' gradient after it. A step is a product, a sum and a tanh either way.
"""

from typing import Any

import torch
from torch import Tensor

from zoo.core.packed import packed_for_steps
from zoo.core.products import weight_gradient


def rnn_scan(products: Tensor, initial: Tensor, weight: Tensor) -> Tensor:
    """h' = tanh(p + h Uᵀ).

    Args:
        products: (T, B, H), the inputs' part p, with all biases.
        initial: (B, H), h before the first step.
        weight: (H, H), U.

    Returns:
        (T, B, H), every step's h.
    """
    return _RNNScan.apply(products, initial, weight)


class _RNNScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, products: Tensor, initial: Tensor, weight: Tensor) -> Tensor:
        packed = packed_for_steps(weight, None, initial)
        states = products.new_empty(len(products) + 1, *initial.shape)
        states[0] = initial
        h = states[0]
        for p, output in zip(products, states[1:], strict=True):
            if packed is None:
                torch.addmm(p, h, weight.T, out=output)
            else:
                torch.add(p, packed(h), out=output)
            h = output.tanh_()
        ctx.save_for_backward(weight, states)
        return states[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, states = ctx.saved_tensors
        packed = packed_for_steps(weight.T, None, states[0])
        products_grad = torch.empty_like(states[1:])
        from_later = torch.zeros_like(states[0])
        for t in range(len(products_grad) - 1, -1, -1):
            dh = grad[t] + from_later
            block = torch.ops.aten.tanh_backward.grad_input(dh, states[t + 1], grad_input=products_grad[t])
            from_later = block @ weight if packed is None else packed(block)
        weight_grad = weight_gradient(products_grad.flatten(0, 1), states[:-1].flatten(0, 1))
        return products_grad, from_later, weight_grad
