"""Adversarial training of texts: Miyato, Dai and Goodfellow, "Adversarial training methods for semi-supervised text
classification", 2017, section 3."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from zoo.core.padding import padding_mask


def adversarial_loss(
    loss: Callable[[Tensor], Tensor],
    embedded: Tensor,
    lengths: Tensor,
    share: float,
    parameters: Iterable[nn.Parameter],
) -> Tensor:
    """The mean of the loss of embedded texts and of that of the same, moved to where it rises most: a scalar.

    Args:
        loss: of embedded texts.
        embedded: texts (B, T, E).
        lengths: their tokens, (B,).
        share: how far each text is moved, as a share of its own length, the norm of its (T, E) features.
        parameters: those that `loss` depends on, and any number of others.

    Returns:
        A loss whose gradient is by `embedded`, as far as that has one, and by `parameters`, and by nothing else.
    """
    plain, slope = _with_slope(loss, embedded, [parameter for parameter in parameters if parameter.requires_grad])
    return (plain + loss(embedded + _worst_move(embedded, slope, lengths, share))) / 2


def _with_slope(
    loss: Callable[[Tensor], Tensor], embedded: Tensor, parameters: list[nn.Parameter]
) -> tuple[Tensor, Tensor]:
    """The loss of embedded texts (B, T, E), and its gradient by them.

    Its gradient by the parameters is taken at once, and the loss comes back as one that has it: left for later, it
    would need a second backward pass, and what that needs in memory, beside that of the moved texts.
    """
    held = embedded.detach().requires_grad_()
    value = loss(held)
    gradients = torch.autograd.grad(value, [held, *parameters], allow_unused=True)
    line = torch.zeros_like(value)  # not the loss, but it rises as that does
    for of, gradient in zip([embedded, *parameters], gradients, strict=True):
        if gradient is not None:
            line = line + torch.dot(of.flatten(), gradient.flatten())
    return value.detach() + (line - line.detach()), gradients[0]


def _worst_move(embedded: Tensor, slope: Tensor, lengths: Tensor, share: float) -> Tensor:
    """What to add to embedded texts (B, T, E) to raise their loss, of that slope, most for its length."""
    inside = ~padding_mask(lengths.to(embedded.device), embedded.shape[1])[..., None]
    length, steepness = (
        torch.linalg.vector_norm(part.detach() * inside, dim=(1, 2), keepdim=True) for part in (embedded, slope)
    )
    return slope * (share * length / steepness.clamp(min=1e-16))  # what is no slope moves nothing
