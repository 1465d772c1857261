"""The training loop, the run folder and what a run needs to go on after it was stopped."""

from zoo.training.loop import train
from zoo.training.memory import keep_freed_memory
from zoo.training.optimizer import Pace
from zoo.training.options import TrainingOptions
from zoo.training.outcome import Outcome, Progress
from zoo.training.processes import Processes
from zoo.training.run_folder import RunFolder, check_run_folder
from zoo.training.task import Task

__all__ = [
    "Outcome",
    "Pace",
    "Processes",
    "Progress",
    "RunFolder",
    "Task",
    "TrainingOptions",
    "check_run_folder",
    "keep_freed_memory",
    "train",
]
