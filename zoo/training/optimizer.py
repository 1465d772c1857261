"""Which optimizer moves which parameter, and how fast."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from zoo.device import multiplies_in_bfloat16
from zoo.training.muon import Muon
from zoo.training.options import TrainingOptions


class Pace(NamedTuple):
    """How a parameter moves beside others, for one that comes trained from another model.

    Howard and Ruder, "Universal language model fine-tuning for text classification", 2018, section 3.3: lower layers
    learn more slowly, and only once those above them have begun.

    Attributes:
        scale: times the peak learning rate.
        thaw: the share of the run before which it stays as it is.
    """

    scale: float = 1.0
    thaw: float = 0.0


def build_optimizers(
    model: nn.Module,
    matrices: Iterable[nn.Parameter],
    options: TrainingOptions,
    paces: Mapping[nn.Parameter, Pace] | None = None,
) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for `matrices` and AdamW for the rest.

    Weight decay belongs on weight matrices: pulling an embedding, a norm or a bias to zero forgets what it knows
    and regularises nothing.

    Args:
        model: what is trained.
        matrices: its hidden weight matrices, each (rows, columns): neither embeddings nor the output layer.
        options: rates and decay.
        paces: of parameters that move otherwise than at the full rate from the start.

    Returns:
        The optimizers. Each group carries its peak rate as `peak_lr` and its `thaw`; see `set_learning_rate`.
    """
    hidden = {id(parameter) for parameter in matrices}
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    maps = {id(module.weight) for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    muon = options.optimizer == "muon"
    by_muon = hidden if muon else set()
    decaying = (hidden | maps - embeddings) - by_muon  # a tied output layer is an embedding
    parameters = list(model.parameters())
    paces = paces or {}
    decayed = [p for p in parameters if id(p) in decaying]
    others = [p for p in parameters if id(p) not in decaying | by_muon]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [
                *_groups(decayed, options.learning_rate, paces, weight_decay=options.weight_decay),
                *_groups(others, options.learning_rate, paces, weight_decay=0.0),
            ],
            betas=(0.9, 0.95),
            fused=fused,
        )
    ]
    matrix = [p for p in parameters if id(p) in by_muon]
    if matrix:
        dtype = torch.bfloat16 if multiplies_in_bfloat16(matrix[0].device) else torch.float32
        groups = _groups(matrix, options.matrix_learning_rate, paces)
        optimizers.append(Muon(groups, options.matrix_learning_rate, options.weight_decay, dtype=dtype))
    return optimizers


def _groups(
    parameters: list[nn.Parameter], rate: float, paces: Mapping[nn.Parameter, Pace], **same: float
) -> list[dict[str, Any]]:
    """A group for each pace."""
    groups: dict[Pace, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(paces.get(parameter, Pace()), []).append(parameter)
    return [
        {"params": group, "lr": rate * pace.scale, "peak_lr": rate * pace.scale, "thaw": pace.thaw, **same}
        for pace, group in groups.items()
    ]


def set_learning_rate(optimizers: list[torch.optim.Optimizer], scale: float, progress: float) -> None:
    """Set every group's rate to `scale` of its peak; a group that is frozen at `progress` (0 to 1) gets no gradient."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale
            if group["thaw"]:
                for parameter in group["params"]:
                    parameter.requires_grad_(progress >= group["thaw"])


def warmup_cosine(progress: float, warmup: float) -> float:
    """Share of the peak learning rate at `progress` (0 to 1): a straight rise, then half a cosine down to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
