"""Weights in bfloat16 for single steps on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.recurrent import RecurrentCore


class PackedLinear:
    """x ↦ W x + b with W, b and x rounded to bfloat16: (N, I) float32 -> (N, O) float32.

    Args:
        weight: W, (O, I).
        bias: b, (O,).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight.detach().bfloat16(), bias.detach().bfloat16()

    def __call__(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        return F.linear(x.bfloat16(), self.weight, self.bias).float()


class PackedWeights:
    """A layer's weights; see `zoo.core.weights.Products`."""

    def __init__(self, core: RecurrentCore, layer: int) -> None:
        own = core.layer_weights(layer, 0, torch.float32)
        self.input_product = PackedLinear(own.ih, own.bias_ih)
        if own.hh is not None and own.bias_hh is not None:
            self.state_product = PackedLinear(own.hh, own.bias_hh)


def packed_layers(core: RecurrentCore) -> list[PackedWeights]:
    """The weights of a core's layers, in evaluation mode: what `RecurrentCore.step` takes."""
    training = core.training
    core.eval()  # or weight dropout would drop some for good
    layers = [PackedWeights(core, layer) for layer in range(core.num_layers)]
    core.train(training)
    return layers
