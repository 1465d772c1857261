"""How a backbone learns that comes trained: not at all, or later and more slowly than what stands above it."""

from collections.abc import Iterable

from torch import nn

from zoo.training.optimizer import Pace


def check_finetuning(finetune: float, finetune_from: float) -> None:
    """Raise ValueError unless `finetune` is a share of the rate and `finetune_from` one of the run, below all of it."""
    if not 0 <= finetune <= 1 or not 0 <= finetune_from < 1:
        raise ValueError(
            f"finetune is {finetune} and finetune_from {finetune_from}, but must be at least 0, and at most 1 or below "
            "1"
        )


def finetuning_paces(
    parameters: Iterable[nn.Parameter], finetune: float, finetune_from: float
) -> dict[nn.Parameter, Pace]:
    """The pace of those parameters that learn at all."""
    return {parameter: Pace(finetune, finetune_from) for parameter in parameters if parameter.requires_grad}
