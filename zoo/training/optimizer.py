"""Which optimizer moves which parameter, and how fast."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from zoo.device import multiplies_in_bfloat16
from zoo.training.muon import Muon
from zoo.training.options import TrainingOptions


def build_optimizers(
    model: nn.Module, matrices: Iterable[nn.Parameter], options: TrainingOptions
) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for `matrices` and AdamW for the rest.

    Weight decay belongs on weight matrices: pulling an embedding, a norm or a bias to zero forgets what it knows
    and regularises nothing.

    Args:
        model: what is trained.
        matrices: its hidden weight matrices, each (rows, columns): neither embeddings nor the output layer.
        options: rates and decay.

    Returns:
        The optimizers. Each group carries its peak rate as `peak_lr`; see `set_learning_rate`.
    """
    hidden = {id(parameter) for parameter in matrices}
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    maps = {id(module.weight) for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    muon = options.optimizer == "muon"
    by_muon = hidden if muon else set()
    decaying = (hidden | maps - embeddings) - by_muon  # a tied output layer is an embedding
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if id(p) in decaying], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if id(p) not in decaying | by_muon], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=options.learning_rate,
            betas=(0.9, 0.95),
            fused=fused,
        )
    ]
    matrix = [p for p in parameters if id(p) in by_muon]
    if matrix:
        dtype = torch.bfloat16 if multiplies_in_bfloat16(matrix[0].device) else torch.float32
        optimizers.append(Muon(matrix, options.matrix_learning_rate, options.weight_decay, dtype=dtype))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: list[torch.optim.Optimizer], scale: float) -> None:
    """Set every group's rate to `scale` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale


def warmup_cosine(progress: float, warmup: float) -> float:
    """Share of the peak learning rate at `progress` (0 to 1): a straight rise, then half a cosine down to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
