"""Where a run is, how it ended, and the facts of it that stand beside its figures."""

import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from zoo.device import Precision
from zoo.training.options import TrainingOptions


@dataclass
class Progress:
    """Where a run is: everything that the loop keeps beside weights, optimizers and random numbers."""

    data: str = ""  # the task's fingerprint
    options: dict[str, Any] = field(default_factory=dict)  # those that a resumed run must have too
    precision: str = ""
    processes: int = 1
    step: int = 0
    epoch: int = 0
    batch: int = 0  # next of the epoch
    tokens: int = 0
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    evaluations: int = 0
    best: float | None = None
    best_step: int = 0
    best_weights: str | None = None  # their checksum
    since_best: int = 0
    running_loss: float | None = None
    ended: bool = False
    samples_size: int = 0  # of samples.txt, in bytes


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        progress: how far it came.
        signal_number: that of the signal that stopped it, None if it came to its end.
        history: its evaluations.
        is_main: whether this is the process that has the final figures to see to.
    """

    progress: Progress
    signal_number: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    is_main: bool = True

    @property
    def exit_code(self) -> int | None:
        """What this process is to exit with now; None if there is something left to do."""
        if self.signal_number is not None:
            return 128 + self.signal_number
        return None if self.is_main else 0

    def facts(
        self, model: torch.nn.Module, options: TrainingOptions, device: torch.device, precision: Precision
    ) -> dict[str, Any]:
        """What metrics.json says of the run itself: size, time, speed, machine, seed and versions."""
        progress = self.progress
        return {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "training_minutes": round(progress.training_seconds / 60, 3),
            "evaluation_minutes": round(progress.evaluation_seconds / 60, 3),
            "tokens_per_second": round(progress.tokens / progress.training_seconds),
            "steps": progress.step,
            "best_step": progress.best_step,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "processes": progress.processes,
            "threads": torch.get_num_threads(),
            "precision": precision,
            "seed": options.seed,
            "versions": {
                "python": sys.version.split()[0],
                "torch": torch.__version__,
                "zoo": _own_version(),
            },
        }


def _own_version() -> str:
    try:
        return version("sequence-zoo")
    except PackageNotFoundError:  # on the path, but not installed
        return "unknown"
