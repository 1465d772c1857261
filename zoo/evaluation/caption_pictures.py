"""Images with their captions, and where in an image the decoder looked for each word, as pictures."""

import unicodedata
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zoo.files import write_atomically

# All lengths are pixels, but for the font's size.
DPI = 128  # a power of two: from pixels to inches and back without rounding
FONT = "DejaVu Sans"  # comes with matplotlib
FONT_POINTS = 7.5
LINE = 18
GAP = 16
LONGEST_PICTURE = 20_000
LONGEST_LINE = 100  # characters: more than fit under an image

SHEET_COLUMNS = 5
SHEET_SIDE = 250  # of the square that an image is fitted into
CAPTION_LINES = 4
SHOWN_REFERENCES = 2
REFERENCE_LINES = 3

ATTENTION_COLUMNS = 8  # the image and seven words; a longer caption goes on below
ATTENTION_SIDE = 168
DIMMED = 0.3  # the brightness of what is not looked at
VEIL = 0.3  # of white over what is looked at, or a look at something black would not be seen

BLACK, GREY, GREEN, RED = "#000000", "#707070", "#1a7f37", "#c62828"


class _Line(NamedTuple):
    text: str
    colour: str


class _Cell(NamedTuple):
    """An image with lines of text under it, or above it."""

    image: Image.Image
    lines: list[_Line]


def draw_captions(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    path: Path,
    marks: Sequence[bool] | None = None,
) -> None:
    """Draw a sheet of images as a PNG, five in a row, each with its caption and, in grey, its first two references.

    Long texts are wrapped and then cut. Characters that the font (DejaVu Sans) does not have are drawn as boxes.

    Args:
        images: N images of any size and mode; they are converted to RGB and fitted into a square.
        captions: N texts.
        references: N lists of texts, which may be empty.
        path: where to.
        marks: N times whether the caption is true: it is then green after a tick, or red after a cross.

    Raises:
        ValueError: there are no images, too many for one picture, or not as many of each.
    """
    _check_counts(
        images=images, captions=captions, references=references, **({} if marks is None else {"marks": marks})
    )
    cells = []
    for number, (image, caption, known) in enumerate(zip(images, captions, references, strict=True)):
        colour = BLACK
        if marks is not None:
            caption, colour = (f"✓ {caption}", GREEN) if marks[number] else (f"✗ {caption}", RED)
        lines = [_Line(line, colour) for line in _wrapped(caption, SHEET_SIDE, CAPTION_LINES)]
        for reference in known[:SHOWN_REFERENCES]:
            lines += [_Line(line, GREY) for line in _wrapped(f"· {reference}", SHEET_SIDE, REFERENCE_LINES)]
        cells.append(_Cell(_fitted(image, SHEET_SIDE), lines))
    rows = [cells[start : start + SHEET_COLUMNS] for start in range(0, len(cells), SHEET_COLUMNS)]
    _draw(rows, SHEET_SIDE, path, text_above=False)


def draw_attention(
    image: Image.Image, words: Sequence[str], weights: Tensor, path: Path, grid: tuple[int, int] | None = None
) -> None:
    """Draw where the decoder looked for each word as a PNG: the image, then once a word, lit where the weight is.

    The grid of weights is upsampled smoothly, as in Xu et al., "Show, attend and tell", 2015. Light is relative to the
    word's largest weight; where the weight is 0 the image is dark and grey. So even attention lights all of it.

    Args:
        image: of any size and mode, as the encoder sees it: the grid is laid over the whole of it.
        words: T texts.
        weights: (T, rows, columns) in [0, 1], from the top left; or (T, S), a row of the grid after the other.
        path: where to.
        grid: (rows, columns), for weights of shape (T, S).

    Raises:
        ValueError: there are no words, too many for one picture, shapes do not fit, or a weight is out of its range.
    """
    _draw(_attention_rows(image, words, weights, grid, "weights"), ATTENTION_SIDE, path, text_above=True)


def draw_attention_sheet(
    images: Sequence[Image.Image],
    words: Sequence[Sequence[str]],
    weights: Sequence[Tensor],
    path: Path,
    grid: tuple[int, int] | None = None,
) -> None:
    """Draw `draw_attention` of N images below each other; `words` and `weights` hold those of each image.

    Raises:
        ValueError: as there, or there are no images or not as many of each.
    """
    _check_counts(images=images, words=words, weights=weights)
    rows: list[list[_Cell | None]] = []
    for number, (image, said, looked) in enumerate(zip(images, words, weights, strict=True)):
        rows += _attention_rows(image, said, looked, grid, f"weights[{number}]")
    _draw(rows, ATTENTION_SIDE, path, text_above=True)


def _attention_rows(
    image: Image.Image, words: Sequence[str], weights: Tensor, grid: tuple[int, int] | None, name: str
) -> list[list[_Cell | None]]:
    maps = _checked_weights(weights, len(words), grid, name)
    fitted = _fitted(image, ATTENTION_SIDE)
    cells = [
        _Cell(_lit(fitted, looked), [_Line(line, BLACK) for line in _wrapped(word, ATTENTION_SIDE, 1)])
        for word, looked in zip(words, maps, strict=True)
    ]
    beside = ATTENTION_COLUMNS - 1
    rows: list[list[_Cell | None]] = [[None, *cells[start : start + beside]] for start in range(0, len(cells), beside)]
    rows[0][0] = _Cell(fitted, [])
    return rows


def _lit(image: Image.Image, weights: Tensor) -> Image.Image:
    """The image, dark and grey where the (rows, columns) weights are 0 and a little lighter where they are largest."""
    pixels = torch.from_numpy(np.array(image)).float()
    light = F.interpolate(weights[None, None], size=pixels.shape[:2], mode="bicubic")[0, 0].clamp(min=0)
    light = light / light.max().clamp(min=torch.finfo(light.dtype).tiny)
    dark = DIMMED * pixels.mean(dim=2, keepdim=True)
    lit = (1 - VEIL) * pixels + VEIL * 255
    return Image.fromarray(torch.lerp(dark, lit, light.unsqueeze(2)).byte().numpy())


def _checked_weights(weights: Tensor, words: int, grid: tuple[int, int] | None, name: str) -> Tensor:
    """(T, rows, columns) in float32."""
    if not words:
        raise ValueError("there are no words to draw: expected one or more")
    shape = tuple(weights.shape)
    if grid is not None:
        rows, columns = grid
        if shape != (words, rows * columns) or 0 in shape:
            raise ValueError(
                f"{name} has shape {shape}: expected {(words, rows * columns)}, "
                f"a row a word and a column a cell of the {rows} × {columns} grid"
            )
        weights = weights.reshape(words, rows, columns)
    elif len(shape) != 3 or shape[0] != words or 0 in shape:
        raise ValueError(f"{name} has shape {shape}: expected ({words}, rows, columns), or ({words}, S) and a grid")
    maps = weights.detach().to("cpu", torch.float32)
    # In 16 bits a weight may be rounded to a little above 1.
    if not bool(((maps >= 0) & (maps <= 1.01)).all()):
        raise ValueError(f"{name} are not all between 0 and 1: expected those after the softmax")
    return maps


def _check_counts(**parts: Sequence[object]) -> None:
    counts = {name: len(part) for name, part in parts.items()}
    if len(set(counts.values())) > 1:
        given = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ValueError(f"there are {given}: expected as many of each, in the same order")
    if 0 in counts.values():
        raise ValueError("there are no images to draw: expected one or more")


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """In RGB and scaled so that its longer side is `side`."""
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def _draw(rows: Sequence[Sequence[_Cell | None]], side: int, path: Path, text_above: bool) -> None:
    """Draw cells in a grid, whose columns are `side` wide and whose rows are as high as needed."""
    # Here and not above: whoever imports zoo.evaluation for its metrics needs no plotting library.
    from matplotlib.figure import Figure

    width = GAP + max(map(len, rows)) * (side + GAP)
    heights = [max(cell.image.height for cell in row if cell) for row in rows]
    texts = [LINE * max(len(cell.lines) for cell in row if cell) for row in rows]
    height = GAP + sum(heights) + sum(texts) + len(rows) * GAP
    if height > LONGEST_PICTURE:
        raise ValueError(
            f"the picture would be {height:,} pixels high: expected at most {LONGEST_PICTURE:,}, draw less"
        )
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    canvas = Image.new("RGB", (width, height), "white")
    top = GAP
    for row, image_height, text_height in zip(rows, heights, texts, strict=True):
        for column, cell in enumerate(row):
            if cell is None:
                continue
            left = GAP + column * (side + GAP)
            if text_above:
                canvas.paste(cell.image, (left, top + text_height))
            else:
                canvas.paste(cell.image, (left, top + image_height - cell.image.height))
            for number, line in enumerate(cell.lines):
                y = top + number * LINE + (0 if text_above else image_height + GAP // 4)
                figure.text(
                    left / width,
                    1 - y / height,
                    line.text,
                    color=line.colour,
                    family=FONT,
                    fontsize=FONT_POINTS,
                    va="top",
                    parse_math=False,
                )
        top += image_height + text_height + GAP
    figure.figimage(np.asarray(canvas))
    picture = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure.savefig(picture, dpi=DPI, format="png")
    write_atomically(path, picture.getvalue())


def _wrapped(text: str, width: int, most: int) -> list[str]:
    """The text in one to `most` lines of at most `width` pixels; if there were more, the last one ends in "…"."""
    shown = "".join(map(_visible, " ".join(text.split())[: LONGEST_LINE * (most + 1)]))
    lines = [""]
    for word in shown.split(" "):
        # A word that is wider than a line is broken anywhere.
        for piece in [f" {word}"] if _width(word) <= width else [f" {word[0]}", *word[1:]]:
            longer = (lines[-1] + piece).lstrip()
            if _width(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(piece.lstrip())
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and _width(f"{last}…") > width:
        last = last[:-1].rstrip()
    return [*lines[: most - 1], f"{last}…"]


def _width(text: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=FONT, size=FONT_POINTS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        points, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return points * DPI / 72


def _visible(character: str) -> str:
    """A character, or what stands for one that a font may refuse."""
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cs") else character
