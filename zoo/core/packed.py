"""Weights laid out for many products of few rows with them, as the steps of decoding are."""

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.recurrent import RecurrentCore


class PackedLinear:
    """x ↦ W x + b, with W laid out once as oneDNN's kernels read it: (N, I) -> (N, O), of x's type.

    `F.linear` lays W out anew in every product, which for few rows takes longer than the product. Where there is no
    such kernel, as on a GPU, it is `F.linear`.

    Args:
        weight: W, (O, I).
        bias: b, (O,).
        dtype: what W, b and x are rounded to.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self.weight, self.bias = weight.detach().to(dtype), bias.detach().to(dtype)
        self.is_packed = _packable(self.weight)
        if self.is_packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        rows = x.to(self.bias.dtype)
        if not self.is_packed:
            return F.linear(rows, self.weight, self.bias).to(x.dtype)
        return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "").to(x.dtype)


def _packable(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    # What oneDNN has for other processors than x86 is not tried here.
    supported = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    if weight.dtype == torch.bfloat16:
        return supported and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return supported and weight.dtype == torch.float32


class PackedWeights:
    """A layer's weights; see `zoo.core.weights.Products`."""

    def __init__(self, core: RecurrentCore, layer: int, dtype: torch.dtype) -> None:
        own = core.layer_weights(layer, 0, dtype)
        self.input_product = PackedLinear(own.ih, own.bias_ih, dtype)
        if own.hh is not None and own.bias_hh is not None:
            self.state_product = PackedLinear(own.hh, own.bias_hh, dtype)


def packed_layers(core: RecurrentCore, dtype: torch.dtype) -> list[PackedWeights]:
    """The weights of a core's layers, in evaluation mode: what `RecurrentCore.step` takes."""
    training = core.training
    core.eval()  # or weight dropout would drop some for good
    layers = [PackedWeights(core, layer, dtype) for layer in range(core.num_layers)]
    core.train(training)
    return layers
