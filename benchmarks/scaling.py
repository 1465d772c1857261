"""How time and memory grow with T, B, H, V and the corpus, as a table, fitted slopes and a picture.

A slope is that of a straight line through the points on logarithmic axes: 1 is linear, 0 constant. T, B and H are of a
training step of the core, V of the output layer with its cross-entropy. The corpus is a file of random words that
scripts/train_text_generator.py takes a few steps on, in a process of its own: its time from start to end, and the most
memory it had resident.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.core_training import Case, make_core, our_step
from benchmarks.memory import peak_of_command
from benchmarks.output_layer import loss_step
from benchmarks.session import MEBIBYTE, Session
from benchmarks.tables import Column
from benchmarks.timing import seconds
from benchmarks.training_runs import command
from zoo.core.output import linear_cross_entropy

SCRIPT = "train_text_generator.py"
CELLS_SHOWN = ("lstm", "gru", "mingru")
CORPUS = "corpus, MB"
POINT_COLUMNS = (
    Column("what grows"),
    Column("to", ",.4g"),
    Column("of"),
    Column("ms", ",.2f"),
    Column("MiB", ",.1f"),
)
SLOPE_COLUMNS = (Column("what grows"), Column("of"), Column("slope of time", ".2f"), Column("slope of memory", ".2f"))


@dataclass(frozen=True)
class Point:
    """One measurement; memory is None where the system does not tell."""

    axis: str
    value: float
    what: str
    seconds: float
    mebibytes: float | None


@dataclass(frozen=True)
class Sizes:
    """What each axis goes over, and where the other axes stand meanwhile."""

    steps: tuple[int, ...]
    rows: tuple[int, ...]
    hidden: tuple[int, ...]
    vocab: tuple[int, ...]
    megabytes: tuple[float, ...]
    fixed: tuple[int, int, int]  # T, B, H


SIZES = {
    "quick": Sizes((4, 8), (2, 4), (8, 16), (50, 100), (0.01, 0.02), (4, 2, 8)),
    "summary": Sizes(
        (64, 128, 256, 512, 1024),
        (8, 16, 32, 64, 128),
        (128, 256, 512, 1024),
        (4_000, 8_000, 16_000, 32_000, 64_000),
        (4, 16, 64, 256),
        (128, 16, 256),
    ),
}
SIZES["full"] = replace(SIZES["summary"], megabytes=(4, 16, 64, 256, 1_000))


def measure(session: Session) -> None:
    table = session.table("scaling", "How time and memory grow", POINT_COLUMNS)
    points = []
    for point in _points(session):
        points.append(point)
        table.add(point.axis, point.value, point.what, 1000 * point.seconds, point.mebibytes)
    slopes = session.table("scaling_slopes", "Slopes on logarithmic axes", SLOPE_COLUMNS)
    for (axis, what), series in grouped(points).items():
        values = [point.value for point in series]
        memory = [point.mebibytes for point in series]
        slopes.add(axis, what, slope(values, [point.seconds for point in series]), slope(values, memory))
    draw(points, session.out / "scaling.png")


def grouped(points: list[Point]) -> dict[tuple[str, str], list[Point]]:
    """By what grows and of what, each in the order they came."""
    series: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        series.setdefault((point.axis, point.what), []).append(point)
    return series


def slope(values: Sequence[float], measured: Sequence[float | None]) -> float | None:
    """Of the least-squares line through the logarithms; None where anything is missing or zero."""
    if not all(measured):
        return None
    x, y = (torch.tensor(numbers, dtype=torch.float64).log() for numbers in (values, measured))
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / (x @ x))


def _points(session: Session) -> Iterator[Point]:
    sizes = SIZES[session.grid]
    steps, rows, hidden = sizes.fixed
    for cell in CELLS_SHOWN:
        case = Case(cell, session.precisions[-1], None, hidden, steps, rows)
        for length in sizes.steps:
            yield _core_point("T", length, replace(case, steps=length), session)
        for batch_size in sizes.rows:
            yield _core_point("B", batch_size, replace(case, batch_size=batch_size), session)
        for hidden_size in sizes.hidden:
            yield _core_point("H", hidden_size, replace(case, hidden_size=hidden_size), session)
    for vocab_size in sizes.vocab:
        step = loss_step(linear_cross_entropy, steps * rows, hidden, vocab_size, session.precisions[-1], session.device)
        yield _point("V", vocab_size, "output layer", step, session)
    with TemporaryDirectory() as folder:
        for megabytes in sizes.megabytes:
            yield corpus_point(megabytes, Path(folder), session)


def _core_point(axis: str, value: int, case: Case, session: Session) -> Point:
    torch.manual_seed(session.seed)
    core = make_core(case).to(session.device)
    inputs, grad = (torch.randn(case.batch_size, case.steps, case.hidden_size, device=session.device) for _ in range(2))
    return _point(axis, value, case.cell, our_step(core, inputs, grad, None, case.precision), session)


def _point(axis: str, value: int, what: str, step: Callable[[], object], session: Session) -> Point:
    (time,) = session.seconds({what: step}).values()
    return Point(axis, value, what, time, session.mebibytes(step))


def corpus_point(megabytes: float, folder: Path, session: Session) -> Point:
    """Train a few steps on a file of so many million bytes."""
    text, held_out = folder / "text.txt", folder / "validation.txt"
    write_words(text, int(1e6 * megabytes), session.seed)
    write_words(held_out, 10_000, session.seed + 1)
    options = {"data": text, "validation_data": held_out, "out": folder / "run", "max_steps": 4, "evaluations": 1}
    options |= {"hidden_size": 32, "markov_order": 1, "seed": session.seed, "overwrite": "true"}
    peak = 0

    def run() -> None:
        nonlocal peak
        peak = peak_of_command(command(SCRIPT, options), session.out / "scaling_corpus.log")

    return Point(CORPUS, megabytes, SCRIPT, seconds(run, session.device), peak / MEBIBYTE)


def write_words(file: Path, size: int, seed: int) -> None:
    """Random words of lower-case letters, `size` bytes of them, a few in a line."""
    generator = random.Random(seed)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(2, 9))) for _ in range(1000)]
    with file.open("w", encoding="utf-8") as output:
        written = 0
        while written < size:
            line = " ".join(generator.choices(words, k=2_000))[: size - written - 1] + "\n"
            written += output.write(line)


def draw(points: list[Point], file: Path) -> None:
    """Time above and memory below, a column for each thing that grows, on logarithmic axes."""
    from matplotlib.figure import Figure

    series = grouped(points)
    axes_names = list(dict.fromkeys(axis for axis, _ in series))
    figure = Figure(figsize=(3.2 * len(axes_names), 6), layout="constrained")
    panels = figure.subplots(2, len(axes_names), squeeze=False)
    for (axis, what), several in series.items():
        values = [point.value for point in several]
        rows: dict[str, list[float | None]] = {
            "ms": [1000 * point.seconds for point in several],
            "MiB": [point.mebibytes for point in several],
        }
        for panel, (unit, measured) in zip(panels[:, axes_names.index(axis)], rows.items(), strict=True):
            steepness = slope(values, measured)
            if steepness is not None:
                panel.loglog(values, measured, marker="o", label=f"{what}: {steepness:.2f}")
                panel.set(xlabel=axis, ylabel=unit)
                panel.legend(title="slope", fontsize="small")
    figure.savefig(file, dpi=120)
