"""The course of a run as a picture."""

from io import BytesIO
from pathlib import Path
from typing import Any

from zoo.files import write_atomically


def draw_curves(history: list[dict[str, Any]], metric: str, file: Path) -> None:
    """Draw training loss and validation `metric` over steps from the lines of metrics.jsonl, as a PNG."""
    # Here and not above: whoever imports zoo.evaluation for its metrics needs no plotting library.
    from matplotlib.figure import Figure

    steps = [line["step"] for line in history]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, [line["training_loss"] for line in history], marker=".", label="training loss (running mean)")
    axes.plot(steps, [line[metric] for line in history], marker=".", label=f"validation {metric}")
    axes.set_xlabel("step")
    axes.set_ylabel("nats a token" if metric == "nats_per_token" else metric)
    axes.grid(alpha=0.3)
    axes.legend()
    picture = BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_atomically(file, picture.getvalue())
