import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from zoo.evaluation import token_weights
from zoo.evaluation.token_weights import colour_token_weights, draw_token_weights

TOKENS = ["A", " good", " film", ",\n", "not", " bad", "."]
WEIGHTS = [0.0, 0.5, 0.1, 0.0, 0.2, 0.4, 0.0]


def picture(folder: Path, tokens: list[str], weights: list[float], title: str = "title") -> np.ndarray:
    file = folder / "weights.png"
    draw_token_weights(tokens, weights, title, file)
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    return (matplotlib.image.imread(file)[..., :3] * 255).round().astype(int)


def area(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((image == np.array(colour)).all(axis=2).sum())


def styled(text: str) -> list[tuple[tuple[int, ...], int, str]]:
    """(background, foreground, text) of each coloured piece."""
    pieces = re.findall(r"\x1b\[48;2;(\d+);(\d+);(\d+)m\x1b\[38;2;(\d+);\d+;\d+m([^\x1b]*)\x1b\[0m", text)
    return [((int(r), int(g), int(b)), int(f), piece) for r, g, b, f, piece in pieces]


def test_the_picture_changes_with_each_input(tmp_path: Path) -> None:
    first = picture(tmp_path, TOKENS, WEIGHTS)
    assert np.array_equal(first, picture(tmp_path, TOKENS, [10 * w for w in WEIGHTS]))  # the largest sets the scale
    assert not np.array_equal(first, picture(tmp_path, TOKENS, WEIGHTS[::-1]))
    assert not np.array_equal(first, picture(tmp_path, ["B", *TOKENS[1:]], WEIGHTS))
    assert not np.array_equal(first, picture(tmp_path, TOKENS, WEIGHTS, "other"))


def test_backgrounds_go_from_white_to_red_and_blue(tmp_path: Path) -> None:
    red, blue = token_weights.RED, token_weights.BLUE
    positive = picture(tmp_path, ["    ", "    "], [2.0, 1.0])
    assert area(positive, red) > 1000
    assert area(positive, blue) == 0
    half = (234, 147, 148)  # between white and red, rounded half to even
    assert area(positive, half) == pytest.approx(area(positive, red), rel=0.1)
    both = picture(tmp_path, ["    ", "    ", "    "], [1.0, -2.0, 0.0])
    assert area(both, blue) == pytest.approx(area(positive, red), rel=0.1)
    assert area(both, red) == 0
    assert area(both, half) > 1000
    assert area(picture(tmp_path, ["    "], [0.0]), red) == 0


def test_a_long_text_is_wrapped_at_blanks_and_an_endless_one_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights = [len(picture(tmp_path, ["word "] * count, [1.0] * count)) for count in (1, 18, 19, 36, 37)]
    one_line = heights[1] - heights[0]
    assert one_line == 0
    assert heights[0] < heights[2] == heights[3] < heights[4]
    endless = picture(tmp_path, ["x"] * 20_000, [1.0] * 20_000)
    assert len(endless) < 6000
    assert endless.shape[1] == picture(tmp_path, ["x"], [1.0]).shape[1]
    monkeypatch.setattr(token_weights, "MOST_LINES", 5)
    assert len(picture(tmp_path, ["x"] * 1_000, [1.0] * 1_000)) == len(picture(tmp_path, ["x"] * 9_000, [1.0] * 9_000))


def test_lines_hold_every_character_once_and_break_after_blanks() -> None:
    text = "one two  three " * 20 + "x" * 200 + "\n\n日本語" * 40 + "\n"
    lines = list(token_weights._wrapped([(c, n) for n, c in enumerate(text)]))
    assert [n for line in lines for _, n in line] == [n for n, c in enumerate(text) if c != "\n"]
    widths = [sum(map(token_weights._width, (c for c, _ in line))) for line in lines]
    assert max(widths) == token_weights.COLUMNS
    assert lines.count([]) == 40  # the empty lines
    words = ["".join(c for c, _ in line) for line in lines[:3]]
    assert all(line.endswith(" ") for line in words)
    assert "".join(words) == text[: sum(map(len, words))]


@pytest.mark.parametrize(
    "tokens",
    [["a\n\nb", "\n", "\t", "\r\n"], ["$x$", "$\\frac$"], ["日本", "e\u0301", "😀"], ["", "\x1b[2J\x00\x9b"], []],
)
def test_any_text_can_be_drawn(tmp_path: Path, tokens: list[str], recwarn: pytest.WarningsRecorder) -> None:
    image = picture(tmp_path, tokens, [1.0] * len(tokens), "$a$ of\n$\\b$")
    assert image.min() == 0  # the title, at least
    assert not recwarn.list


def test_the_terminal_text_by_hand() -> None:
    assert styled(colour_token_weights(["no", " yes", " and"], [-1.0, 2.0, 0.0])) == [
        ((143, 187, 218), 0, "no"),  # half-way from white to blue (31, 119, 180)
        ((214, 39, 40), 255, " yes"),
        ((255, 255, 255), 0, " and"),
    ]
    assert colour_token_weights(["a"], [0.0]) == "\x1b[48;2;255;255;255m\x1b[38;2;0;0;0ma\x1b[0m"
    assert colour_token_weights([], []) == ""


def test_the_terminal_text_is_the_text_with_marked_newlines() -> None:
    coloured = colour_token_weights(TOKENS, WEIGHTS)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == "A good film,↵\nnot bad."
    for line in colour_token_weights(["a\nb\n\n", "\n", " c"], [1.0, 0.5, -1.0]).split("\n"):
        assert line.endswith("\x1b[0m")
        assert line.startswith("\x1b[48;2;")
    assert len(styled(coloured)) == len(TOKENS)


def test_a_text_sends_the_terminal_no_commands() -> None:
    hostile = "\x1b[2J\x1b]0;title\x07\r\x9b31m\x7f\b\ud800"
    coloured = colour_token_weights([hostile], [1.0])
    assert styled(coloured)[0][2] == "␛[2J␛]0;title␇␍\ufffd31m\ufffd␈\ufffd"
    coloured.encode()


def test_letters_stand_out_from_their_background() -> None:
    weights = [n / 50 for n in range(-50, 51)]
    for background, foreground, _ in styled(colour_token_weights(["x"] * len(weights), weights)):
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in (c / 255 for c in background)]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        other = 1.0 if foreground else 0.0
        assert (max(light, other) + 0.05) / (min(light, other) + 0.05) > 4.5  # WCAG 2, level AA


def test_errors_say_what_was_given_and_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 tokens and 1 weights"):
        colour_token_weights(["a", "b"], [1.0])
    with pytest.raises(ValueError, match="weight 1 is nan"):
        draw_token_weights(["a", "b"], [1.0, float("nan")], "", tmp_path / "x.png")
