"""`torch.compile` of each architecture: a training step without it and with it, and after how many steps it has paid.

A step is the loss and its gradients, in the precision that training takes; the optimizer is the same either way. Steps
go over four batches that differ in length as batches of texts do. What compiling costs is all that the first two passes
over them take longer than later ones: first for these shapes, then for any.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.session import Session, check_same
from benchmarks.tables import Column, Table
from benchmarks.timing import seconds
from zoo.device import Precision
from zoo.many_to_one import TextBatch, TextClassifier
from zoo.one_to_many import CaptionBatch, ImageCaptioner, TextGenerator
from zoo.one_to_one import ImageBatch, ImageClassifier
from zoo.seq2seq import TranslationBatch, Translator

COLUMNS = (
    Column("architecture"),
    Column("precision"),
    Column("eager, ms a step", ",.2f"),
    Column("compiled, ms a step", ",.2f"),
    Column("times as fast", ".2f"),
    Column("compiling, s", ",.1f"),
    Column("has paid after"),
)
BATCHES = 4
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.02}
Pass = Callable[[], Tensor]


class Architecture(Protocol):
    """What training needs of a model."""

    def loss(self, batch: Any) -> Tensor:
        """A batch -> the mean loss, a scalar."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All of them."""


def measure(session: Session) -> None:
    try:
        torch.compile(torch.sin)(torch.ones(2, device=session.device))
    except RuntimeError as error:
        print(f"\nno table of torch.compile, which cannot be used here: {_first_line(error)}")
        return
    table = session.table("compile", "torch.compile of a training step", COLUMNS)
    for model, batches in architectures(session):
        _measure_one(model, batches, session, table)


def _measure_one(model: Architecture, batches: list[Any], session: Session, table: Table) -> None:
    precision = session.precisions[-1]
    name = type(model).__name__
    torch.compiler.reset()
    eager, compiled = (
        training_pass(model, loss, batches, precision) for loss in (model.loss, torch.compile(model.loss))
    )
    try:
        first = seconds(compiled, session.device) + seconds(compiled, session.device)
    except RuntimeError as error:
        table.add(name, precision, None, None, None, None, f"fails: {_first_line(error)}")
        return
    check_same(f"{name}, losses", compiled(), eager(), TOLERANCES[precision])
    times = session.seconds({"eager": eager, "compiled": compiled})
    compiling = max(0.0, first - 2 * times["compiled"])
    gain = (times["eager"] - times["compiled"]) / BATCHES
    table.add(
        name,
        precision,
        1000 * times["eager"] / BATCHES,
        1000 * times["compiled"] / BATCHES,
        times["eager"] / times["compiled"],
        compiling,
        f"{compiling / gain:,.0f} steps" if gain > 0 else "never",
    )


def training_pass(model: Architecture, loss: Callable[[Any], Tensor], batches: list[Any], precision: Precision) -> Pass:
    """What takes a step on each batch and returns their losses, (N,)."""
    parameters = list(model.parameters())
    device = parameters[0].device.type

    def steps() -> Iterator[Tensor]:
        for batch in batches:
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                value = loss(batch)
            torch.autograd.grad(value, parameters)
            yield value.detach()

    return lambda: torch.stack(list(steps()))


def architectures(session: Session) -> Iterator[tuple[Architecture, list[Any]]]:
    """Each architecture, of about the size that its script takes, with its batches."""
    quick = session.grid == "quick"
    vocab_size, size, rows, longest, pixels = (30, 8, 2, 12, 32) if quick else (8_000, 256, 32, 128, 64)
    words: dict[str, Any] = {"vocab_size": vocab_size, "embedding_size": size, "hidden_size": size}
    labels = [str(number) for number in range(10)]
    device = session.device
    torch.manual_seed(session.seed)

    def tokens(count: int, length: int) -> Tensor:
        return torch.randint(vocab_size, (count, length), device=device)

    def lengths(count: int, length: int) -> Tensor:
        return torch.randint(length // 2, length + 1, (count,), device=device)

    def images() -> Tensor:
        return torch.rand(rows, 3, pixels, pixels, device=device)

    def targets() -> Tensor:
        return torch.randint(len(labels), (rows,), device=device)

    steps = [longest - number * (longest // 8) for number in range(BATCHES)]
    short = [max(2, length // 6) for length in steps]  # captions and sentences
    yield ImageClassifier(labels=labels, image_size=pixels).to(device), [ImageBatch(images(), targets()) for _ in steps]
    yield (
        TextGenerator(**words).to(device),
        # The windows of a text are all of a length.
        [(tokens(rows, longest), tokens(rows, longest)) for _ in steps],
    )
    yield (
        ImageCaptioner(**words, image_size=pixels).to(device),
        [CaptionBatch(images(), tokens(rows, length), lengths(rows, length)) for length in short],
    )
    yield (
        TextClassifier(**words, labels=labels).to(device),
        [TextBatch(tokens(rows, length), lengths(rows, length), targets()) for length in steps],
    )
    yield (
        Translator(**words).to(device),
        [
            TranslationBatch(*(part for _ in "st" for part in (tokens(rows, length), lengths(rows, length))))
            for length in short
        ],
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
