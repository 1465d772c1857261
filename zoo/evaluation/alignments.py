"""Which source tokens a decoder attends to for each target token, as a picture."""

import unicodedata
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.files import write_atomically

CELL_INCHES = 0.25
LARGEST_INCHES = 18  # of the matrix's longer side; beyond, cells and letters shrink
SCALE_INCHES = (0.12, 1.2)  # the colour bar's width and height
LONGEST_LABEL = 20
POINTS_PER_INCH = 72


def draw_alignment(
    source_tokens: Sequence[str], target_tokens: Sequence[str], weights: Sequence[Sequence[float]] | Tensor, path: Path
) -> None:
    """Draw attention weights as a PNG: a column a source token, a row a target token, the darker the more weight.

    Colours go from 0 to 1 in every picture. Blanks in tokens are drawn as ␣ and newlines as ↵, long tokens are cut,
    and characters that the font (DejaVu Sans) does not have are drawn as boxes.

    Args:
        source_tokens: S strings, along the top.
        target_tokens: T strings, down the side.
        weights: (T, S) in [0, 1].
        path: where to.

    Raises:
        ValueError: there are no tokens, shapes do not fit, or a weight is out of its range.
    """
    # Here and not above: whoever imports zoo.evaluation for its metrics needs no plotting library.
    from matplotlib.figure import Figure

    matrix = _checked_weights(weights, len(target_tokens), len(source_tokens))
    rows, columns = matrix.shape
    cell = min(CELL_INCHES, LARGEST_INCHES / max(rows, columns))
    width, height = columns * cell, rows * cell
    # The figure is the matrix; what stands round it, the file has room for by its tight bounding box.
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    image = axes.imshow(matrix.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    style: dict[str, Any] = {
        "family": "DejaVu Sans",  # comes with matplotlib
        "fontsize": min(9.0, 0.8 * cell * POINTS_PER_INCH),
        "parse_math": False,
    }
    axes.set_xticks(range(columns), list(map(_label, source_tokens)), rotation=90, **style)
    axes.set_yticks(range(rows), list(map(_label, target_tokens)), **style)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("source")
    axes.set_ylabel("target")
    bar_width, bar_height = SCALE_INCHES
    scale = figure.add_axes((1 + bar_width / width, 1 - bar_height / height, bar_width / width, bar_height / height))
    figure.colorbar(image, cax=scale, label="attention")
    picture = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure.savefig(picture, dpi=120, format="png", bbox_inches="tight")
    write_atomically(path, picture.getvalue())


def _checked_weights(weights: Sequence[Sequence[float]] | Tensor, targets: int, sources: int) -> Tensor:
    if not targets or not sources:
        raise ValueError(f"there are {sources} source tokens and {targets} target tokens: expected one or more of each")
    if len(weights) != targets:
        raise ValueError(f"weights has {len(weights)} rows: expected {targets}, one a target token")
    rows = [torch.as_tensor(row).detach().to("cpu", torch.float32) for row in weights]
    for number, row in enumerate(rows):
        if row.shape != (sources,):
            raise ValueError(
                f"row {number} of weights has shape {tuple(row.shape)}: expected ({sources},), a weight a source token"
            )
    matrix = torch.stack(rows)
    # In 16 bits a weight may be rounded to a little above 1.
    if not bool(((matrix >= 0) & (matrix <= 1.01)).all()):
        raise ValueError("weights are not all between 0 and 1: expected those after the softmax")
    return matrix


def _label(token: str) -> str:
    shown = token if len(token) <= LONGEST_LABEL else token[: LONGEST_LABEL - 1] + "…"
    return "".join(map(_visible, shown))


def _visible(character: str) -> str:
    """A character as a label has it: on one line, with something to see for a blank, and nothing a font may refuse."""
    if character in " \n":
        return "␣" if character == " " else "↵"
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cs") else character
