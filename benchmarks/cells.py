"""The five cells at equal parameters: the same text, minutes and recipe, one table.

    python -m benchmarks.cells --data input.txt            # Tiny Shakespeare, 2 minutes a cell

Each cell is trained by scripts/train_text_generator.py in a process of its own, one after the other, with nothing but
the core to tell them apart (no n-gram embeddings). Hidden sizes are chosen so that the parameter counts agree.
Leave the machine alone meanwhile: what else runs on it is counted against the cell that is being trained.
"""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import Column, Table, Value
from benchmarks.training_runs import train
from zoo.command_line import parse_options, run_script
from zoo.core import CELLS, RecurrentCore

COLUMNS = (
    Column("cell"),
    Column("hidden size", "d"),
    Column("parameters", ",d"),
    Column("tokens/s", ",d"),
    Column("nats a character", ".4f"),
    Column("windows of 256", ".4f"),
    Column("n-gram baseline", ".4f"),
)


@dataclass
class CellsOptions:
    """What to compare.

    Args:
        data: Text to train on, as for scripts/train_text_generator.py.
        out: Folder for the runs and the table (table.md, table.csv).
        minutes: Training time of each cell.
        parameters: How many the core is to have.
        embedding_size: Width of the token embeddings.
        num_layers: Layers of each core, with pre-norm residual connections.
        seed: Seed of every run.
    """

    data: str = "python_docs"
    out: Path = Path("runs/cells")
    minutes: float = 2.0
    parameters: int = 700_000
    embedding_size: int = 64
    num_layers: int = 2
    seed: int = 0


def core_parameters(cell: str, options: CellsOptions, hidden_size: int) -> int:
    core = RecurrentCore(cell, options.embedding_size, hidden_size, options.num_layers, residual=True)
    return sum(parameter.numel() for parameter in core.parameters())


def hidden_size_for(cell: str, options: CellsOptions) -> int:
    """The multiple of 16, a size the kernels like, whose core comes nearest to the wanted parameter count."""
    sizes = range(16, 4096, 16)
    larger = next((size for size in sizes if core_parameters(cell, options, size) >= options.parameters), sizes[-1])
    return min(
        (larger, max(16, larger - 16)),
        key=lambda size: abs(core_parameters(cell, options, size) - options.parameters),
    )


def measure(cell: str, options: CellsOptions) -> tuple[Value, ...]:
    """The table's row."""
    hidden_size = hidden_size_for(cell, options)
    recipe = {
        "data": options.data,
        "cell": cell,
        "hidden_size": hidden_size,
        "embedding_size": options.embedding_size,
        "num_layers": options.num_layers,
        "residual": "true",
        "ngram_order": 1,
        "dropout": 0.0,
        "max_minutes": options.minutes,
        "evaluations": 4,
        "seed": options.seed,
    }
    figures = train("train_text_generator.py", recipe, options.out / cell)
    validation = figures["validation"]
    return (
        cell,
        hidden_size,
        figures["parameters"],
        figures["tokens_per_second"],
        validation["nats_per_token"],
        validation["nats_per_character_window_256"],
        figures["markov_validation"]["nats_per_token"],
    )


def main() -> int:
    (options,) = parse_options(__doc__ or "", CellsOptions)
    options.out.mkdir(parents=True, exist_ok=True)
    table = Table(options.out, "table", f"The cells on {options.data}, {options.minutes:g} minutes each", [], COLUMNS)
    for cell in CELLS:
        table.add(*measure(cell, options))
    return 0


if __name__ == "__main__":
    run_script(main)
