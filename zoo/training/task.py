"""What the training loop needs to know of a task; each training script defines one."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from zoo.core import State
from zoo.pretrained import PretrainedModel
from zoo.training.optimizer import Pace


class Task(Protocol):
    """A model, its batches, its loss and how it is judged.

    Attributes:
        metric: the key of `evaluate`'s result that decides which weights are best.
        higher_is_better: which way `metric` goes.
        fingerprint: tells the data, as the model sees them, from others; a run is not resumed on others.
    """

    metric: str
    higher_is_better: bool
    fingerprint: str

    @property
    def model(self) -> PretrainedModel:
        """What is trained and saved."""

    def matrices(self) -> Iterable[nn.Parameter]:
        """The hidden weight matrices, which Muon may move."""

    def paces(self) -> Mapping[nn.Parameter, Pace]:
        """How parameters move that do not move at the full rate from the start; {} where all do."""

    def num_batches(self, epoch: int) -> int:
        """How many batches epoch `epoch` has."""

    def batch(self, epoch: int, k: int) -> Any:
        """Batch k: a named tuple of tensors and plain values, a pure function of the seed, `epoch` and k."""

    def loss(self, batch: Any, carry: State) -> tuple[Tensor, State]:
        """The batch's loss, a scalar, and what to hand on to the next batch: a detached state, or ()."""

    def weight(self, batch: Any) -> float:
        """What the batch's loss is a mean over: its tokens, its rows, or the sum of their weights."""

    def tokens(self, batch: Any) -> int:
        """How many tokens are trained on in the batch."""

    def evaluate(self) -> dict[str, float]:
        """Validation figures, quick enough to be taken several times in a run."""

    def sample(self) -> str:
        """Something short that the model makes, to look at."""
