"""Which labels a classifier takes for which, as a picture."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.evaluation.classification import count_confusions
from zoo.files import write_atomically

MOST_NUMBERED = 30  # labels; with more, the cells are too small to write into
CELL_INCHES = 0.42
LARGEST_INCHES = 18  # of the matrix; beyond, cells and letters shrink
LONGEST_LABEL = 28
POINTS_PER_INCH = 72
DIGIT_WIDTH = 0.7  # of its height, with some room


def draw_confusions(targets: Tensor, predictions: Tensor, labels: Sequence[str], file: Path) -> None:
    """Draw the confusion matrix as a PNG: a row a true label, a column a predicted one.

    Colour is the share of the row's texts, so that rare labels are seen as well as common ones; the number in a cell
    counts them (none where there are none, and none at all with more than 30 labels).

    Args:
        targets: (N,) int64 in [0, C).
        predictions: (N,) int64 in [0, C).
        labels: the C names.
        file: where to.

    Raises:
        ValueError: there are no texts, shapes do not fit, or a label is outside [0, C).
    """
    # Here and not above: whoever imports zoo.evaluation for its metrics needs no plotting library.
    from matplotlib.figure import Figure

    size = len(labels)
    counts = count_confusions(targets, predictions, size)
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    side = min(size * CELL_INCHES, LARGEST_INCHES)
    cell = side / size * POINTS_PER_INCH
    names = [name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…" for name in labels]
    # The names stand beside the matrix, and turned below it.
    margin = 1 + max(map(len, names)) * 0.08
    figure = Figure(figsize=(max(side, 1.5) + margin + 1, max(side, 1.5) + margin), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    style: dict[str, Any] = {"fontsize": min(9.0, 0.8 * cell), "parse_math": False}
    axes.set_xticks(range(size), names, rotation=90, **style)
    axes.set_yticks(range(size), names, **style)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, ax=axes, label="share of the true label", shrink=0.8, aspect=30)
    if size <= MOST_NUMBERED:
        fontsize = min(9.0, cell / (DIGIT_WIDTH * len(str(int(counts.max())))))
        for true, predicted in counts.nonzero().tolist():
            colour = "white" if shares[true, predicted] > 0.5 else "black"
            text = str(int(counts[true, predicted]))
            axes.text(predicted, true, text, ha="center", va="center", color=colour, fontsize=fontsize)
    picture = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure.savefig(picture, dpi=120, format="png")
    write_atomically(file, picture.getvalue())
