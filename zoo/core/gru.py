"""The GRU over whole sequences on a CPU, where PyTorch has no fused kernel for it.

One step waits for the one before it in a single product, h·Uᵀ. Everything else is done for all steps at once: the
inputs' products before the loop, and on the way back the factors that the gates put on the gradient, so that a
backward step is two pointwise operations and one product. The weights' gradient is one product at the end, where
autograd's graph would add up a small one a step (as Appleyard et al., "Optimizing performance of recurrent neural
networks on GPUs", 2016, section 3).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.packed import packed_for_steps
from zoo.core.products import weight_gradient

# Of h in as many steps as a backward pass prepares at a time: small enough to stay in the cache until they come.
CHUNK_ELEMENTS = 2**18


def gru_scan(products: Tensor, initial: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """r = σ(p_r + h U_rᵀ);  z = σ(p_z + h U_zᵀ);  n = tanh(p_n + r·(h U_nᵀ + b));  h' = (1 - z)·n + z·h.

    Args:
        products: (T, B, 3·H), the inputs' part p of the blocks r, z, n, with all biases but `bias`.
        initial: (B, H), h before the first step.
        weight: (3·H, H), U.
        bias: (H,), b.

    Returns:
        (T, B, H), every step's h.
    """
    return _GRUScan.apply(products, initial, weight, bias)


class _GRUScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, products: Tensor, initial: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        steps, batch, size = len(products), *initial.shape
        gates_weight, new_weight = weight[: 2 * size].T, weight[2 * size :].T
        packed = packed_for_steps(weight, F.pad(bias, (2 * size, 0)), initial)
        gates = products.new_empty(steps, batch, 2 * size)
        recurrent, new = (products.new_empty(steps, batch, size) for _ in range(2))
        states = products.new_empty(steps + 1, batch, size)
        states[0] = initial
        h = states[0]
        for p, gate, product, candidate, output in zip(products, gates, recurrent, new, states[1:], strict=True):
            if packed is None:
                torch.addmm(p[:, : 2 * size], h, gates_weight, out=gate).sigmoid_()
                torch.addmm(bias, h, new_weight, out=product)
            else:
                all_blocks = packed(h)
                torch.add(p[:, : 2 * size], all_blocks[:, : 2 * size], out=gate).sigmoid_()
                product.copy_(all_blocks[:, 2 * size :])
            torch.addcmul(p[:, 2 * size :], gate[:, :size], product, out=candidate).tanh_()
            h = torch.lerp(candidate, h, gate[:, size:], out=output)
        ctx.save_for_backward(weight, gates, recurrent, new, states)
        return states[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weight, gates, recurrent, new, states = ctx.saved_tensors
        steps, batch, size = new.shape
        packed = packed_for_steps(weight.T, None, states[0])
        blocks = new.new_empty(steps, batch, 3, size)  # the gradient of the recurrent products
        new_grad = torch.empty_like(new)  # that of n's argument, and so of the inputs' part of n, outside r
        from_later = torch.zeros_like(states[0])
        for stop in range(steps, 0, -(chunk := max(1, CHUNK_ELEMENTS // (batch * size)))):
            here = slice(max(0, stop - chunk), stop)
            r, z = gates[here].split(size, dim=-1)
            n = new[here]
            # How the gradient of h' becomes that of n's argument, and of the recurrent products' three blocks.
            to_new = torch.addcmul(1 - z, 1 - z, n * n, value=-1)
            factors = blocks[here]
            factors[:, :, 0] = torch.ops.aten.sigmoid_backward(to_new * recurrent[here], r)
            factors[:, :, 1] = torch.ops.aten.sigmoid_backward(states[here] - n, z)
            torch.mul(to_new, r, out=factors[:, :, 2])
            for t in range(stop - 1, here.start - 1, -1):
                dh = torch.add(grad[t], from_later, out=new_grad[t])
                block = blocks[t].mul_(dh[:, None]).view(batch, -1)
                if packed is None:
                    from_later = torch.addmm(dh * gates[t, :, size:], block, weight)
                else:
                    from_later = packed(block).addcmul_(dh, gates[t, :, size:])
            new_grad[here] *= to_new
        weight_grad = weight_gradient(blocks.flatten(0, 1).flatten(1), states[:-1].flatten(0, 1))
        bias_grad = blocks[:, :, 2].sum(dim=(0, 1))
        blocks[:, :, 2] = new_grad
        return blocks.flatten(2), from_later, weight_grad, bias_grad
