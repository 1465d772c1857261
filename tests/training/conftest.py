"""Two tiny tasks, and a way to train on them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from zoo.core import State, detach
from zoo.data import ContiguousWindows, TextTokenizer, WindowBatch
from zoo.evaluation import carried_nats
from zoo.one_to_many import TextGenerator
from zoo.pretrained import PretrainedModel
from zoo.training import Outcome, Pace, Processes, RunFolder, TrainingOptions, train

TEXT = "".join(f"{n} green bottles, hanging on the wall; {n * n} more.\n" for n in range(40))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TextTask:
    """A text generator on a short text. `before_loss` is called with the number of the loss, from 1 on."""

    metric = "nats_per_token"
    higher_is_better = False
    fingerprint = "text"

    def __init__(self, rows: int = 4, before_loss: Callable[[int], None] | None = None, **architecture: Any) -> None:
        torch.manual_seed(0)
        tokenizer = TextTokenizer.train([TEXT], "char")
        sizes = {"embedding_size": 8, "hidden_size": 12, "ngram_order": 2, "ngram_buckets": 30}
        self.model = TextGenerator(tokenizer=tokenizer, **(sizes | architecture))
        tokens = tokenizer.encode_long(TEXT).long()
        self.windows = ContiguousWindows(tokens[:-300], rows, 50, seed=0)
        self.validation_tokens = tokens[-300:]
        self.before_loss = before_loss
        self.losses: list[float] = []
        self.seen: list[tuple[int, int]] = []

    def matrices(self) -> Iterable[nn.Parameter]:
        return [p for p in self.model.decoder.core.parameters() if p.ndim == 2]

    def paces(self) -> dict[nn.Parameter, Pace]:
        return {}

    def num_batches(self, epoch: int) -> int:
        return self.windows.num_batches(epoch)

    def batch(self, epoch: int, k: int) -> WindowBatch:
        self.seen.append((epoch, k))
        return self.windows.batch(epoch, k)

    def loss(self, batch: WindowBatch, carry: State) -> tuple[Tensor, State]:
        if self.before_loss is not None:
            self.before_loss(len(self.losses) + 1)
        state = None if batch.first or not carry else carry
        loss, state = self.model.loss_and_state((batch.inputs, batch.targets), state)
        self.losses.append(float(loss.detach()))
        return loss, detach(state)

    def weight(self, batch: WindowBatch) -> float:
        return batch.inputs.numel()

    def tokens(self, batch: WindowBatch) -> int:
        return batch.inputs.numel()

    def evaluate(self) -> dict[str, float]:
        torch.rand(3)  # must not be felt in training
        return {"nats_per_token": carried_nats(self.model, self.validation_tokens)}

    def sample(self) -> str:
        return str(self.model.generate("", max_new_tokens=20, seed=0))


class Line(PretrainedModel):
    """y = w·x + b."""

    def __init__(self, *, tokenizer: None = None) -> None:
        super().__init__()
        self.config, self.tokenizer = {}, tokenizer
        self.layer = nn.Linear(3, 1)


class Points(NamedTuple):
    """inputs (B, 3), targets (B, 1)."""

    inputs: Tensor
    targets: Tensor


class LineTask:
    """Least squares on 64 points; the first eight batches of 8 are the first sixteen batches of 4.

    `figures` are what the evaluations say, one after the other, in place of the loss; `change_loss` gets the loss
    and the number of the call.
    """

    metric = "error"

    def __init__(
        self,
        rows: int = 8,
        figures: list[float] | None = None,
        higher_is_better: bool = False,
        change_loss: Callable[[Tensor, int], Tensor] | None = None,
    ) -> None:
        torch.manual_seed(0)
        self.higher_is_better = higher_is_better
        self.fingerprint = "points"
        self.model = Line()
        self.rows, self.figures, self.change_loss = rows, figures, change_loss
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(64, 3, generator=generator)
        self.targets = self.inputs @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
        self.calls = 0
        self.evaluated: list[Tensor] = []
        self.rates: list[float] = []

    def matrices(self) -> Iterable[nn.Parameter]:
        return [self.model.layer.weight]

    def paces(self) -> dict[nn.Parameter, Pace]:
        return {}

    def num_batches(self, epoch: int) -> int:
        return 64 // self.rows

    def batch(self, epoch: int, k: int) -> Points:
        rows = slice(k * self.rows, (k + 1) * self.rows)
        return Points(self.inputs[rows], self.targets[rows])

    def loss(self, batch: Points, carry: State) -> tuple[Tensor, State]:
        self.calls += 1
        loss = (self.model.layer(batch.inputs) - batch.targets).square().mean()
        return (loss if self.change_loss is None else self.change_loss(loss, self.calls)), ()

    def weight(self, batch: Points) -> float:
        return len(batch.inputs)

    def tokens(self, batch: Points) -> int:
        return len(batch.inputs)

    def evaluate(self) -> dict[str, float]:
        self.evaluated.append(self.model.layer.weight.clone())
        if self.figures is not None:
            return {"error": self.figures[len(self.evaluated) - 1]}
        return {"error": float((self.model.layer(self.inputs) - self.targets).square().mean())}

    def sample(self) -> str:
        return f"error after {self.calls}"


@pytest.fixture
def text_task() -> type[TextTask]:
    return TextTask


@pytest.fixture
def line_task() -> type[LineTask]:
    return LineTask


@pytest.fixture
def run_training(tmp_path: Path) -> Callable[..., Outcome]:
    """`run_training(task, **options)` trains in `tmp_path / "run"` on the CPU."""

    def run(task: Any, out: Path | None = None, precision: str = "float32", **changes: Any) -> Outcome:
        options = TrainingOptions(out=out or tmp_path / "run", precision=precision, **changes)
        plain = {name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(options).items()}
        folder = RunFolder(options.out, plain, options.overwrite, options.resume)
        return train(task, options, folder, Processes("cpu"), precision)  # type: ignore[arg-type]

    return run
