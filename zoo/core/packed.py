"""Weights laid out for many products of few rows with them, as recurrent steps are."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.products import onednn_is_quicker
from zoo.core.weights import CellWeights

# From these sizes of a batch on a product is quicker with weights laid out for it.
PACKED_ROWS = 4
PACKED_SIZE = {torch.float32: 512, torch.bfloat16: 1}  # of h
PACKED_SIZE_FOR_ONEDNN = 256  # in float32 where `F.linear` takes another library, which is slower


class PackedLinear:
    """x ↦ W x + b, with W laid out once as a library's kernels read it: (N, I) -> (N, O), of x's type.

    `F.linear` lays W out anew in every product, which for few rows takes longer than the product. In float32 and
    bfloat16 the library is oneDNN. In float16 it is FBGEMM, which keeps only W in 16 bits and multiplies in float32:
    for few rows all depends on how fast W can be read. Where there is no such kernel, as on a GPU, it is `F.linear`.

    Args:
        weight: W, (O, I).
        bias: b, (O,), or None for none.
        dtype: what W is rounded to, and but for FBGEMM's kernels b and x too.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.weight, self.bias = weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype)
        self.is_packed = _packable(self.weight)
        if self.is_packed and dtype == torch.float16:
            bias = None if bias is None else bias.detach().float()
            self.weight = torch.ops.quantized.linear_prepack_fp16(self.weight.float(), bias)
        elif self.is_packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        if self.is_packed and self.dtype == torch.float16:
            return torch.ops.quantized.linear_dynamic_fp16(x.float(), self.weight).to(x.dtype)
        rows = x.to(self.dtype)
        if not self.is_packed:
            return F.linear(rows, self.weight, self.bias).to(x.dtype)
        return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "").to(x.dtype)


def _packable(weight: Tensor) -> bool:
    if weight.device.type != "cpu":
        return False
    if weight.dtype == torch.float16:  # FBGEMM would make finite numbers of others
        return torch.backends.quantized.engine in ("x86", "fbgemm") and bool(weight.isfinite().all())
    if not torch.backends.mkldnn.is_available():
        return False
    # What oneDNN has for other processors than x86 is not tried here.
    supported = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    if weight.dtype == torch.bfloat16:
        return supported and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return supported and weight.dtype == torch.float32


def packed_for_steps(weight: Tensor, bias: Tensor | None, h: Tensor) -> PackedLinear | None:
    """The product with `weight`, if that is quicker so for the steps of a sequence, with rows as those of h (B, H)."""
    if torch.compiler.is_compiling():
        return None  # the compiler does not know such weights
    size = PACKED_SIZE.get(h.dtype, math.inf)
    if h.dtype == torch.float32 and onednn_is_quicker():
        size = min(size, PACKED_SIZE_FOR_ONEDNN)
    if h.shape[0] < PACKED_ROWS or h.shape[1] < size:
        return None
    return PackedLinear(weight.contiguous(), bias, h.dtype)


class PackedWeights:
    """A layer's weights; see `zoo.core.weights.Products`."""

    def __init__(self, weights: CellWeights, dtype: torch.dtype) -> None:
        self.input_product = PackedLinear(weights.ih, weights.bias_ih, dtype)
        if weights.hh is not None and weights.bias_hh is not None:
            self.state_product = PackedLinear(weights.hh, weights.bias_hh, dtype)
