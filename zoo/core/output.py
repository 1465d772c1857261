"""Cross-entropy over a vocabulary without holding the scores of all positions at once.

A vocabulary's scores are by far the largest tensor of a language model's step: (B·T, V), in float32, several times
over. Here they live a few rows at a time, and the gradient is taken while they are there, so that memory does not grow
with B·T and the traffic stays in the cache (the idea of "Cut your losses in large-vocabulary language models",
Wijmans et al., 2024).
"""

from typing import Any

import torch
from torch import Tensor

from zoo.core.autocast import compute_dtype
from zoo.core.products import input_gradient, linear

# Rows whose scores are held at once: those of 4 million scores, but at least MIN_ROWS, or reading and writing the whole
# gradient of the weight for so few rows would take over.
CHUNK_SCORES = 2**22
MIN_ROWS = 1024
# On a CPU their shares and gradients live in less, PIECE_SCORES at a time, or there would be two tensors of that size.
PIECE_SCORES = 2**20


def linear_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Mean of -log softmax(features·weightᵀ + bias)[target], the same as `F.cross_entropy(F.linear(...), targets)`.

    Args:
        features: (N, H).
        weight: (V, H).
        bias: (V,).
        targets: (N,), int64, each below V.
        label_smoothing: this share of each target is spread over the whole vocabulary (Szegedy et al., 2016).

    Returns:
        A float32 scalar. Products are in the type of `features`, or of autocast; sums over the vocabulary in float32.

    Raises:
        ValueError: N is 0, and so there is no mean.
    """
    if not len(targets):
        raise ValueError("the batch has no targets, but must have at least one to take the mean of")
    features = features.to(compute_dtype(features))
    # Inside `forward` gradients always look switched off.
    return _LinearCrossEntropy.apply(features, weight, bias, targets, label_smoothing, torch.is_grad_enabled())


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        label_smoothing: float,
        grad_enabled: bool,
    ) -> Tensor:
        count, dtype = len(features), features.dtype
        sums = torch.promote_types(dtype, torch.float32)
        used = weight.to(dtype)
        total = torch.zeros((), dtype=sums, device=features.device)
        needs_grad = grad_enabled and any(ctx.needs_input_grad)
        bias_grad = torch.zeros_like(bias, dtype=sums) if needs_grad else None
        if needs_grad:
            features_grad = torch.empty_like(features)
            weight_grad = torch.zeros_like(weight, dtype=sums)
        rows = max(MIN_ROWS, CHUNK_SCORES // len(weight))
        for start in range(0, count, rows):
            x = features[start : start + rows]
            scores = linear(x, used, bias.to(dtype))
            piece = max(1, PIECE_SCORES // len(weight)) if scores.device.type == "cpu" else rows
            for some, target in zip(scores.split(piece), targets[start : start + rows].split(piece), strict=True):
                total += _sum_of_losses(some, target, label_smoothing, bias_grad)
            if needs_grad:
                features_grad[start : start + rows] = input_gradient(scores, used)
                if dtype == sums:
                    weight_grad.addmm_(scores.T, x)  # without the product as another tensor of (V, H)
                else:
                    weight_grad += scores.T @ x
            del scores, some  # or they would live on while the next rows' scores are computed
        if needs_grad:
            ctx.save_for_backward(features_grad, weight_grad, bias_grad)
            ctx.count = count
        return total / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        scale = grad / ctx.count
        features_grad, weight_grad, bias_grad = (part * scale for part in ctx.saved_tensors)
        return features_grad, weight_grad, bias_grad, None, None, None


def _sum_of_losses(scores: Tensor, targets: Tensor, label_smoothing: float, bias_grad: Tensor | None) -> Tensor:
    """The sum of the losses of scores (n, V) with targets (n,), in `linear_cross_entropy` their mean.

    With `bias_grad` (V,) the sum's gradient of the scores takes their place, and that of the biases is added to it.
    """
    sums, target = torch.promote_types(scores.dtype, torch.float32), targets[:, None]
    # log of the sum of exp(score - highest) is -log of the highest's share: one exponential each is enough.
    shares = torch.softmax(scores, dim=-1, dtype=sums)
    highest = scores.amax(dim=-1, keepdim=True).to(sums)
    log_sum = highest - shares.amax(dim=-1, keepdim=True).log()
    total = (log_sum - (1 - label_smoothing) * scores.gather(1, target).to(sums)).sum()
    if label_smoothing:
        total -= label_smoothing * scores.mean(dim=-1, dtype=sums).sum()
    if bias_grad is not None:
        # softmax - smoothed one-hot
        shares.scatter_add_(1, target, shares.new_full((), label_smoothing - 1).expand_as(target))
        if label_smoothing:
            shares -= label_smoothing / scores.shape[1]
        bias_grad += shares.sum(dim=0)
        scores.copy_(shares)
    return total
