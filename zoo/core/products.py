"""Products of large matrices on AMD's processors with AVX-512, in float32 at twice the rate of `F.linear`.

PyTorch multiplies float32 matrices by Intel's MKL, which leaves the widest instructions of AMD's processors unused.
Convolutions are oneDNN's, which uses them, and x ↦ W x + b is a convolution by 1 × 1 of a picture with the rows of x as
its places. In bfloat16 both are oneDNN's, but of large products the convolution lays W out better. Before AVX-512 (Zen
4) MKL leaves nothing unused, and the convolution's gradients of weights take 3 to 10 times as long as MKL's.
"""

import functools
import math
import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from zoo.core.autocast import compute_dtype

# In products of fewer, what a convolution takes to start is not made up for.
MIN_MULTIPLICATIONS = {torch.float32: 2**23, torch.bfloat16: 2**31}


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b, as `F.linear`, by the quicker library: x (..., I), W (O, I), b (O,) -> (..., O)."""
    if not _by_convolution(x, weight, x.numel() * len(weight)):
        return F.linear(x, weight, bias)
    product = _convolution if x.dtype == torch.float32 else _BFloat16Convolution.apply
    return product(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """grad W, the gradient of `linear`'s x by the quicker library: grad (N, O), W (O, I) -> (N, I)."""
    if grad.dtype != torch.float32 or not _by_convolution(grad, weight, grad.numel() * weight.shape[1]):
        return grad @ weight
    shape = (1, weight.shape[1], len(grad), 1)
    inputs_grad = conv2d_input(shape, _filters(weight), _picture(grad))
    return inputs_grad.permute(0, 2, 3, 1).reshape(len(grad), -1)


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """gradᵀ x, the gradient of `linear`'s W by the quicker library: grad (N, O), x (N, I) -> (O, I)."""
    if grad.dtype != torch.float32 or not _by_convolution(x, grad, x.numel() * grad.shape[1]):
        return grad.T @ x
    shape = (grad.shape[1], x.shape[1], 1, 1)
    return conv2d_weight(_picture(x), shape, _picture(grad)).flatten(1)


@functools.cache
def onednn_is_quicker() -> bool:
    """Whether oneDNN multiplies float32 matrices quicker than `F.linear`: AMD's AVX-512, and PyTorch with MKL."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    file = Path("/proc/cpuinfo")  # on other systems than Linux Python knows the maker
    return "AuthenticAMD" in (file.read_text(encoding="utf-8") if file.exists() else platform.processor())


def _by_convolution(x: Tensor, other: Tensor, multiplications: int) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and compute_dtype(x) == x.dtype == other.dtype
        and multiplications >= MIN_MULTIPLICATIONS.get(x.dtype, math.inf)
        and onednn_is_quicker()
    )


def _convolution(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`linear` of rows (N, I)."""
    outputs = F.conv2d(_picture(rows), _filters(weight), bias)
    return outputs.permute(0, 2, 3, 1).reshape(len(rows), len(weight))


class _BFloat16Convolution(torch.autograd.Function):
    """`_convolution`, with the gradients of `F.linear`: in bfloat16 those are quicker than a convolution's."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _convolution(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        return (
            grad @ weight if of_rows else None,
            grad.T @ rows if of_weight else None,
            torch.mv(grad.T, grad.new_ones(len(grad))) if of_bias else None,  # in half the time of a sum
        )


def _picture(rows: Tensor) -> Tensor:
    """(N, C) -> (1, C, N, 1), each place's channels side by side, as they lie: no copy."""
    return rows[None, :, None].permute(0, 3, 1, 2)


def _filters(weight: Tensor) -> Tensor:
    """(O, I) -> (O, I, 1, 1), strided as a picture, or gradients would be copied into the order of another kernel."""
    return weight[:, None, None].permute(0, 3, 1, 2)
