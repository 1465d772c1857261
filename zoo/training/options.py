"""How to train: the options that all training scripts share."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal


@dataclass
class TrainingOptions:
    """How to train.

    Args:
        out: Folder to write the run to; it must not exist yet.
        overwrite: Replace a run that is in that folder.
        resume: Go on with the run in that folder from its last save.
        resume_previous: Go on from the save before the last one instead, which is then forgotten.
        batch_size: Rows in a batch.
        learning_rate: Peak learning rate of AdamW.
        matrix_learning_rate: Peak learning rate of Muon, for the weight matrices of the core.
        optimizer: muon uses Muon (Jordan et al., 2024) for the core's matrices and AdamW for the rest; adamw
            uses AdamW for all.
        weight_decay: Decoupled weight decay, on weight matrices only; embeddings, norms and biases have none.
        warmup: Share of the run in which the learning rate rises from 0; then it falls along a cosine to 0.
        gradient_clip: Largest norm of the gradient; larger ones are scaled down to it.
        accumulate: Batches whose gradients are added up for one step.
        epochs: Stop after so many passes over the data; without any of the three limits, after max_minutes.
        max_steps: Stop after so many steps; of several limits the nearest counts.
        max_minutes: Stop after so many minutes of training; the script's usual 1 or 2 if none of the three limits is
            given. The learning rate follows the clock, so such a run fits the machine but is not repeated bit for bit.
        evaluations: How often to evaluate in the course of the run, evenly spaced, the last at the end.
        patience: Stop early after so many evaluations in a row without a better one.
        save_minutes: Save for --resume at least this often, beside every evaluation.
        precision: bfloat16 halves the work of products on hardware that has it; auto uses it there.
        device: auto, cpu, cuda, mps, ...
        seed: Seed of everything that is drawn: initial weights, batches, dropout, samples.
        tensorboard: Write TensorBoard event files too (needs the extra `tensorboard`).
    """

    # How long a script trains where no limit is given; 0 if one must be. No option, and so without a type.
    usual_minutes = 0.0

    out: Path
    overwrite: bool = False
    resume: bool = False
    resume_previous: bool = False
    batch_size: int = 32
    learning_rate: float = 4e-3
    matrix_learning_rate: float = 0.02
    optimizer: Literal["muon", "adamw"] = "muon"
    weight_decay: float = 0.01
    warmup: float = 0.03
    gradient_clip: float = 1.0
    accumulate: int = 1
    epochs: float | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    evaluations: int = 10
    patience: int | None = None
    save_minutes: float = 5.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    seed: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.epochs is None and self.max_steps is None and self.max_minutes is None:
            self.max_minutes = self.usual_minutes or None
        limits = {"epochs": self.epochs, "max_steps": self.max_steps, "max_minutes": self.max_minutes}
        if all(limit is None for limit in limits.values()):
            raise ValueError("one of epochs, max_steps and max_minutes must be given, or training would not end")
        for name, value in limits.items():
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}, but must be above 0")
        for name in ("batch_size", "accumulate", "evaluations", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, but must be at least 1")
        for name in ("learning_rate", "matrix_learning_rate", "gradient_clip", "save_minutes"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}, but must be above 0")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}, but must be at least 0 and below 1")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay is {self.weight_decay}, but must be at least 0")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}, but must fit into 64 bits")
        if self.tensorboard and find_spec("tensorboard") is None:
            raise ValueError("tensorboard was asked for but is not installed: pip install 'sequence-zoo[tensorboard]'")
        self.resume = self.resume or self.resume_previous
        if self.overwrite and self.resume:
            raise ValueError("overwrite and resume were both given; a run is either replaced or gone on with")


# What may differ between a run and its resumption: they say where and how long, or what is measured when training is
# over, not what is computed in it. (The precision that `auto` came to is compared by the loop.) But for the three that
# a run whose loss became infinite is to lower.
RESUMABLE_CHANGES = frozenset(
    {
        "out",
        "overwrite",
        "resume",
        "resume_previous",
        "epochs",
        "max_steps",
        "max_minutes",
        "patience",
        "save_minutes",
        "cache",
        "markov_weight",
        "tensorboard",
        "device",
        "precision",
        "learning_rate",
        "matrix_learning_rate",
        "gradient_clip",
    }
)
