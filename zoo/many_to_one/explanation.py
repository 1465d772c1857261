"""Why a classifier says what it says: which pieces of a text decided on its label."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 32


@dataclass(frozen=True)
class Explanation:
    """How much each piece of a text counted for its label.

    Attributes:
        label: the label explained, the most probable one.
        probability: how probable the model takes it to be.
        tokens: the text's pieces, in order; what `max_length` cuts out is left out, unless a bag reads it.
        weights: one a piece. By `attention`: shares, which sum to 1. By `integrated gradients`: what the piece's
            embedding, and its n-grams in a bag, add to the label's log-odds, negative where they speak against the
            label; they sum to what the whole text adds to those of embeddings of zero and no n-grams.
        method: `attention`, or `integrated gradients` (Sundararajan et al., "Axiomatic attribution for deep networks",
            2017, eq. 3) where the pooling is not attention alone, or a bag has its say.
    """

    label: str
    probability: float
    tokens: tuple[str, ...]
    weights: tuple[float, ...]
    method: str


def integrated_gradients(value: Callable[..., Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of `value` by each input, in the mean over the straight way from zero to the inputs.

    Times the inputs, and summed, they are by how much the value at the inputs is above that at zero. Sundararajan et
    al., "Axiomatic attribution for deep networks", 2017, eq. 3, by the middles of 32 steps.

    Args:
        value: of many points, each input's (N, ...) -> (N,).
        inputs: of any shape.

    Returns:
        The gradients, each of its input's shape; zero where the value does not depend on an input.
    """
    shares = (torch.arange(STEPS, device=inputs[0].device) + 0.5) / STEPS
    with torch.enable_grad():
        ways = [
            (shares.view(-1, *(1 for _ in end.shape)) * end).to(end.dtype).detach().requires_grad_() for end in inputs
        ]
        gradients = torch.autograd.grad(value(*ways).sum(), ways, materialize_grads=True)
    return [gradient.mean(dim=0) for gradient in gradients]
