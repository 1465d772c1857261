"""How much each token of a text counts, as a background colour: in a picture and in a terminal."""

import math
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
RED: Colour = (214, 39, 40)
BLUE: Colour = (31, 119, 180)

FONT = "DejaVu Sans Mono"  # comes with matplotlib
FONT_POINTS = 10
COLUMNS = 90  # of the picture; a wide character takes two
MOST_LINES = 200  # of the picture; matplotlib draws up to 65,535 pixels
COLUMN_INCHES = 0.602 * FONT_POINTS / 72  # the font's width is 0.602 of its size
LINE_INCHES = 1.6 * FONT_POINTS / 72

Cell = tuple[str, int]  # a character, and the number of the token it belongs to


def draw_token_weights(tokens: Sequence[str], weights: Sequence[float], title: str, file: Path) -> None:
    """Draw a text as a PNG, wrapped over lines, with a background colour a token by its weight.

    From white at 0 to red at the largest weight, and to blue at minus that: the farthest from 0 has the full colour.
    A newline is drawn as ↵ at the end of its line. Of a long text the first 200 lines are drawn. Characters that the
    font (DejaVu Sans Mono) does not have are drawn as boxes.

    Args:
        tokens: the N pieces whose concatenation is the text, blanks and newlines included.
        weights: N finite numbers.
        title: stands above the text.
        file: where to.

    Raises:
        ValueError: there are not as many weights as tokens, or one is not finite.
    """
    # Here and not above: whoever imports zoo.evaluation for its metrics needs no plotting library.
    from matplotlib.figure import Figure

    colours = _colours(tokens, weights)
    lines = list(_wrapped([(c, number) for number, token in enumerate(tokens) for c in _visible(token)]))
    if len(lines) > MOST_LINES:
        note = f"… and {len(lines) - MOST_LINES:,} more lines"
        lines = [*lines[:MOST_LINES], [(c, len(colours)) for c in note]]
        colours.append(WHITE)
    heading = list(_wrapped([(c, 0) for c in title.replace("\n", " ")]))
    height = len(heading) + 1 + max(len(lines), 1)

    figure = Figure(figsize=((COLUMNS + 2) * COLUMN_INCHES, (height + 1) * LINE_INCHES))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    # One image and few texts, not a rectangle and a text a token: a long text takes a second instead of a minute.
    backgrounds = [[WHITE] * COLUMNS for _ in range(height)]
    style: dict[str, Any] = {"family": FONT, "fontsize": FONT_POINTS, "va": "center_baseline", "parse_math": False}
    for y, line in enumerate(heading):
        axes.text(0, y + 0.5, "".join(c for c, _ in line), weight="bold", **style)
    for y, line in enumerate(lines, start=len(heading) + 1):
        x = 0
        # A wide character that the font does not have is drawn narrow: what follows starts anew, in its own column.
        for (letters, _), cells in groupby(line, key=lambda cell: (_letters(colours[cell[1]]), _width(cell[0]) == 2)):
            run = list(cells)
            axes.text(x, y + 0.5, "".join(c for c, _ in run), color=str(letters / 255), **style)
            for character, number in run:
                width = _width(character)
                backgrounds[y][x : x + width] = [colours[number]] * width
                x += width
    axes.imshow(backgrounds, extent=(0, COLUMNS, height, 0), aspect="auto", interpolation="nearest")
    axes.set(xlim=(-1, COLUMNS + 1), ylim=(height + 0.5, -0.5))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure.savefig(file, dpi=120, format="png")


def colour_token_weights(tokens: Sequence[str], weights: Sequence[float]) -> str:
    """A text for a terminal with 24-bit colours: the colours, arguments and errors of `draw_token_weights`.

    Each newline is shown as ↵ before it; colours are reset after each token and at each line's end, so that nothing
    after the text, or to the right of it, is coloured. Control characters are replaced by pictures of them: a text
    can send the terminal no commands.
    """
    coloured = []
    for token, colour in zip(tokens, _colours(tokens, weights), strict=True):
        background = "\x1b[48;2;{};{};{}m".format(*colour)
        foreground = "\x1b[38;2;{0};{0};{0}m".format(_letters(colour))
        lines = _visible(token).split("\n")
        coloured.append("\n".join(f"{background}{foreground}{line}\x1b[0m" if line else "" for line in lines))
    return "".join(coloured)


def _colours(tokens: Sequence[str], weights: Sequence[float]) -> list[Colour]:
    if len(tokens) != len(weights):
        raise ValueError(f"there are {len(tokens)} tokens and {len(weights)} weights: expected a weight for each token")
    for number, weight in enumerate(weights):
        if not math.isfinite(weight):
            raise ValueError(f"weight {number} is {weight}: expected a finite number")
    largest = max(map(abs, weights), default=0) or 1
    return [_mixed(weight / largest) for weight in weights]


def _mixed(weight: float) -> Colour:
    """The colour of a weight between -1 and 1."""
    end = RED if weight > 0 else BLUE
    red, green, blue = (round(w + (e - w) * abs(weight)) for w, e in zip(WHITE, end, strict=True))
    return red, green, blue


def _letters(colour: Colour) -> int:
    """White or black (255 or 0): which has more contrast on this background, by WCAG 2's relative luminance."""
    parts = [p / 255 for p in colour]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 255 if luminance < 0.179 else 0


def _visible(token: str) -> str:
    """A token as it is shown: a mark before each newline, and nothing that moves the cursor but the newline."""
    return "".join(map(_shown, token))


def _shown(character: str) -> str:
    if character == "\n":
        return "↵\n"
    if character == "\t":
        return "    "
    category = unicodedata.category(character)
    if category == "Cc" and character < "\x20":
        return chr(0x2400 + ord(character))  # Unicode's pictures of the control characters
    return "\ufffd" if category in ("Cc", "Cs") else character


def _wrapped(cells: list[Cell]) -> Iterator[list[Cell]]:
    """Lines of at most COLUMNS columns, cut after newlines, and else after blanks where there are any."""
    line: list[Cell] = []
    columns, after_blank = 0, 0
    for character, number in cells:
        if character == "\n":
            yield line
            line, columns, after_blank = [], 0, 0
            continue
        if columns + _width(character) > COLUMNS:
            cut = after_blank or len(line)
            yield line[:cut]
            line = line[cut:]
            columns, after_blank = sum(_width(c) for c, _ in line), 0
        line.append((character, number))
        columns += _width(character)
        if character == " ":
            after_blank = len(line)
    if line:
        yield line


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
