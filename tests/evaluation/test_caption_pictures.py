import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor
from torch import Tensor

from zoo.evaluation import caption_pictures
from zoo.evaluation.caption_pictures import (
    ATTENTION_SIDE,
    BLACK,
    GAP,
    GREEN,
    GREY,
    LINE,
    RED,
    SHEET_SIDE,
    draw_attention,
    draw_attention_sheet,
    draw_captions,
)

BLUE, ORANGE = (30, 60, 250), (250, 160, 20)
UNUSUAL = [
    "$a$ $$ a $ b $ c \\frac{ _^%#&",
    "",
    " \n\t\r\n a\n\nb ",
    "\x00 \x1b[2J \x9b \x7f \ud800 \u2028 \uffff \U000e0001",
    "日本語 नमस्ते ไทย مرحبا שלום \u202eabc e\u0301 \u0301",
    "😀 👨‍👩‍👧 🇩🇪 \ufe0f",
    "x" * 5000,
    "日" * 5000,
    "word " * 5000,
]


def plain(colour: tuple[int, int, int], width: int = 40, height: int = 40) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def read(file: Path) -> np.ndarray:
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert list(file.parent.iterdir()) == [file]
    return np.array(Image.open(file).convert("RGB")).astype(int)


def sheet(
    folder: Path,
    images: Sequence[Image.Image],
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    marks: Sequence[bool] | None = None,
) -> np.ndarray:
    file = folder / "sheet" / "sheet.png"
    file.parent.mkdir(exist_ok=True)
    draw_captions(images, captions, references, file, marks)
    return read(file)


def attention(folder: Path, image: Image.Image, words: Sequence[str], weights: Tensor) -> np.ndarray:
    file = folder / "attention" / "attention.png"
    file.parent.mkdir(exist_ok=True)
    draw_attention(image, words, weights, file)
    return read(file)


def patches(picture: np.ndarray, colour: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of the box round all pixels of a colour: nothing, or one box."""
    rows, columns = np.nonzero((picture == colour).all(axis=2))
    if not len(rows):
        return []
    return [(rows.min(), columns.min(), rows.max() + 1 - rows.min(), columns.max() + 1 - columns.min())]


def has(picture: np.ndarray, colour: str) -> bool:
    return bool(patches(picture, ImageColor.getcolor(colour, "RGB")))  # type: ignore[arg-type]


def panel(picture: np.ndarray, row: int, column: int, height: int = ATTENTION_SIDE) -> np.ndarray:
    """A square of a picture of attention, or its top; that of the image itself is 0, 0."""
    top, left = GAP + row * (height + LINE + GAP) + LINE, GAP + column * (ATTENTION_SIDE + GAP)
    return picture[top : top + height, left : left + ATTENTION_SIDE]


def one_hot(rows: int, columns: int, *places: tuple[int, int]) -> Tensor:
    weights = torch.zeros(len(places), rows, columns)
    for number, (row, column) in enumerate(places):
        weights[number, row, column] = 1
    return weights


def centre_of_light(picture: np.ndarray) -> tuple[float, float]:
    """(down, right), 0 to 1, of what is much lighter than the darkest."""
    light = picture.sum(axis=2)
    rows, columns = np.nonzero(light > (light.min() + light.max()) / 2)
    return (rows.mean() + 0.5) / len(light), (columns.mean() + 0.5) / light.shape[1]


def test_a_sheet_has_each_image_in_its_place(tmp_path: Path) -> None:
    images = [plain(BLUE), plain(ORANGE, 400, 200), plain(ORANGE), plain(ORANGE), plain(ORANGE), plain(BLUE, 30, 60)]
    picture = sheet(tmp_path, images, ["a dog"] * 6, [["a cat", "a cow"]] * 6)
    step = SHEET_SIDE + GAP
    assert picture.shape[1] == GAP + 5 * step
    first, last = picture[: GAP + SHEET_SIDE + 40], picture[GAP + SHEET_SIDE + 40 :]
    assert patches(first, BLUE) == [(GAP, GAP, SHEET_SIDE, SHEET_SIDE)]
    # A flat image stands on the line of the others.
    assert patches(first[:, : GAP + 2 * step], ORANGE) == [
        (GAP + SHEET_SIDE // 2, GAP + step, SHEET_SIDE // 2, SHEET_SIDE)
    ]
    ((_, left, height, width),) = patches(last, BLUE)
    assert (left, height, width) == (GAP, SHEET_SIDE, SHEET_SIDE // 2)
    assert not patches(last, ORANGE)


def test_marks_colour_captions_and_references_are_grey(tmp_path: Path) -> None:
    image = [plain(BLUE)]
    unmarked = sheet(tmp_path, image, ["a dog"], [[]])
    true, false = (sheet(tmp_path, image, ["a dog"], [[]], [mark]) for mark in (True, False))
    assert [has(unmarked, colour) for colour in (GREEN, RED)] == [False, False]
    assert [has(true, colour) for colour in (GREEN, RED)] == [True, False]
    assert [has(false, colour) for colour in (GREEN, RED)] == [False, True]
    # The colour is not all: there is a tick or a cross too.
    assert not np.array_equal((true != 255).any(axis=2), (false != 255).any(axis=2))
    with_reference = sheet(tmp_path, image, ["a dog"], [["a cat"]])
    below = with_reference[unmarked.shape[0] - GAP :]
    assert has(below, GREY) and not has(below, BLACK)
    assert with_reference.shape[0] == unmarked.shape[0] + LINE
    assert np.array_equal(with_reference[: unmarked.shape[0] - GAP], unmarked[:-GAP])


def test_a_sheet_changes_with_each_input(tmp_path: Path) -> None:
    images, captions, references = [plain(BLUE), plain(ORANGE)], ["a dog", "a cat"], [["one", "two"], ["three"]]
    first = sheet(tmp_path, images, captions, references)
    assert not np.array_equal(first, sheet(tmp_path, images[::-1], captions, references))
    assert not np.array_equal(first, sheet(tmp_path, images, captions[::-1], references))
    assert not np.array_equal(first, sheet(tmp_path, images, captions, references[::-1]))
    assert not np.array_equal(first, sheet(tmp_path, images, captions, [["one", "zwei"], ["three"]]))
    # Two references are drawn.
    assert np.array_equal(first, sheet(tmp_path, images, captions, [["one", "two", "more"], ["three"]]))


@pytest.mark.parametrize("text", UNUSUAL)
def test_any_caption_can_be_drawn_and_stays_under_its_image(
    tmp_path: Path, text: str, recwarn: pytest.WarningsRecorder
) -> None:
    picture = sheet(tmp_path, [plain(BLUE)] * 2, [text, ""], [[text, text], []])
    assert picture.shape[0] < GAP + SHEET_SIDE + (4 + 3 + 3) * LINE + GAP + 1
    below = picture[GAP + SHEET_SIDE :]
    assert (below[:, GAP + SHEET_SIDE + GAP // 2 :] == 255).all()
    assert not recwarn.list
    assert attention(tmp_path, plain(BLUE), [text], one_hot(2, 2, (0, 0))).shape[1] == GAP + 2 * (ATTENTION_SIDE + GAP)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(), max_size=60))
def test_any_characters_can_be_drawn(tmp_path: Path, recwarn: pytest.WarningsRecorder, text: str) -> None:
    sheet(tmp_path, [plain(BLUE, 1, 1)], [text], [[text]])
    assert not recwarn.list


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"])
def test_images_of_any_mode_and_shape_can_be_drawn(tmp_path: Path, mode: str) -> None:
    for size in ((1, 1), (3000, 3), (3, 3000)):
        image = Image.new(mode, size)
        sheet(tmp_path, [image], ["a dog"], [[]])
        attention(tmp_path, image, ["dog"], one_hot(7, 7, (3, 3)))
        assert (image.mode, image.size) == (mode, size)


@pytest.mark.parametrize("grid", [(7, 7), (3, 8)])
@pytest.mark.parametrize("size", [(50, 50), (80, 40)])
def test_the_light_is_where_the_weight_is(tmp_path: Path, grid: tuple[int, int], size: tuple[int, int]) -> None:
    places = [(1, 1), (1, grid[1] - 2), (grid[0] - 2, 1), (1, 3)]
    picture = attention(tmp_path, plain(ORANGE, *size), list("abcd"), one_hot(*grid, *places))
    height = ATTENTION_SIDE * size[1] // size[0]
    assert (panel(picture, 0, 0, height) == ORANGE).all()
    for number, (row, column) in enumerate(places, start=1):
        expected = ((row + 0.5) / grid[0], (column + 0.5) / grid[1])
        assert centre_of_light(panel(picture, 0, number, height)) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255)])
def test_light_is_seen_on_black_and_on_white(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    picture = panel(attention(tmp_path, plain(colour), ["dog"], one_hot(5, 5, (2, 2))), 0, 1)
    middle, corner = picture[ATTENTION_SIDE // 2, ATTENTION_SIDE // 2], picture[0, 0]
    assert (middle - corner > 50).all()


def test_even_weights_light_the_whole_image_and_none_nothing(tmp_path: Path) -> None:
    weights = torch.stack([torch.full((7, 7), 1 / 49), torch.zeros(7, 7), one_hot(7, 7, (0, 0))[0]])
    picture = attention(tmp_path, plain(BLUE), ["even", "none", "one"], weights)
    even, none, one = (panel(picture, 0, column) for column in (1, 2, 3))
    assert (even == even[0, 0]).all()
    assert (none == none[0, 0]).all()
    assert np.abs(one[0, 0] - even[0, 0]).max() <= 10  # a smooth peak is not quite at the corner
    assert np.abs(one[-1, -1] - none[0, 0]).max() <= 1
    assert even.sum() > 2 * none.sum()


def test_the_picture_depends_on_the_weights_and_not_on_their_types_or_scale(tmp_path: Path) -> None:
    image, words = plain(ORANGE), ["a", "dog"]
    weights = torch.softmax(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), dim=0)
    first = attention(tmp_path, image, words, weights)
    assert np.array_equal(first, attention(tmp_path, image, words, weights.clone().requires_grad_()))
    assert np.array_equal(first, attention(tmp_path, image, words, weights.double()))
    assert np.array_equal(first, attention(tmp_path, image, words, weights / 2))
    assert attention(tmp_path, image, words, weights.bfloat16()).shape == first.shape
    assert not np.array_equal(first, attention(tmp_path, image, words, weights.flip(0)))
    assert not np.array_equal(first, attention(tmp_path, image, ["a", "cat"], weights))
    flat = weights.flatten(1).t().contiguous().t()  # of any memory layout
    draw_attention(image, words, flat, tmp_path / "attention" / "attention.png", grid=(3, 4))
    assert np.array_equal(first, read(tmp_path / "attention" / "attention.png"))
    draw_attention(image, words, flat, tmp_path / "attention" / "attention.png", grid=(4, 3))
    assert not np.array_equal(first, read(tmp_path / "attention" / "attention.png"))


@pytest.mark.parametrize(("words", "rows", "columns"), [(1, 1, 2), (7, 1, 8), (8, 2, 8), (22, 4, 8)])
def test_captions_of_any_length_go_on_below(tmp_path: Path, words: int, rows: int, columns: int) -> None:
    places = [(number % 3, number % 4) for number in range(words)]
    picture = attention(tmp_path, plain(BLUE), ["word"] * words, one_hot(3, 4, *places))
    step = ATTENTION_SIDE + GAP
    assert picture.shape[:2] == (GAP + rows * (step + LINE), GAP + columns * step)
    last = panel(picture, rows - 1, (words - 1) % 7 + 1)
    assert centre_of_light(last) == pytest.approx(centre_of_light(panel(picture, 0, (words - 1) % 12 % 7 + 1)), abs=1)


def test_a_sheet_of_attention_is_its_images_below_each_other(tmp_path: Path) -> None:
    images = [plain(BLUE), plain(ORANGE, 80, 40)]
    words = [["a", "dog", "runs"], ["a", "red", "cat"]]
    weights = [one_hot(4, 4, (0, 1), (1, 2), (3, 3)), one_hot(2, 3, (1, 1), (0, 0), (0, 2))]
    above, below = (attention(tmp_path, *one) for one in zip(images, words, weights, strict=True))
    draw_attention_sheet(images, words, weights, tmp_path / "attention" / "attention.png")
    assert np.array_equal(read(tmp_path / "attention" / "attention.png"), np.concatenate([above[:-GAP], below]))
    flat = [some.flatten(1) for some in (weights[0], weights[0])]
    draw_attention_sheet(images, words, flat, tmp_path / "attention" / "attention.png", grid=(4, 4))
    assert np.array_equal(read(tmp_path / "attention" / "attention.png")[: len(above) - GAP], above[:-GAP])


def test_matplotlibs_global_state_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, zoo.evaluation.caption_pictures as a; from PIL import Image;"
        "before = 'matplotlib' in sys.modules;"
        "a.draw_captions([Image.new('RGB', (9, 9))], ['b'], [['c']], pathlib.Path(sys.argv[1]));"
        "sys.exit(before or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.png")], check=False).returncode == 0


def test_errors_of_a_sheet_say_what_was_given_and_expected_and_leave_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sheet.png"
    file.write_text("as it was")
    image = plain(BLUE)
    with pytest.raises(ValueError, match="there are 2 images, 1 captions, 2 references: expected as many of each"):
        draw_captions([image] * 2, ["a"], [[], []], file)
    with pytest.raises(ValueError, match="there are 1 images, 1 captions, 1 references, 2 marks"):
        draw_captions([image], ["a"], [[]], file, [True, False])
    with pytest.raises(ValueError, match="there are no images to draw"):
        draw_captions([], [], [], file)
    monkeypatch.setattr(caption_pictures, "LONGEST_PICTURE", 400)
    with pytest.raises(ValueError, match=r"the picture would be \d+ pixels high: expected at most 400"):
        draw_captions([image] * 6, ["a"] * 6, [[]] * 6, file)
    with pytest.raises(ValueError, match="there are 2 images, 2 words, 1 weights: expected as many"):
        draw_attention_sheet([image] * 2, [["a"]] * 2, [one_hot(2, 2, (0, 0))], file)
    with pytest.raises(ValueError, match=r"weights\[1\] has shape \(1, 2, 2\): expected \(2, rows, columns\)"):
        draw_attention_sheet([image] * 2, [["a"], ["a", "b"]], [one_hot(2, 2, (0, 0))] * 2, file)
    assert file.read_text() == "as it was"


def test_errors_of_attention_say_what_was_given_and_expected_and_leave_the_file(tmp_path: Path) -> None:
    file = tmp_path / "attention.png"
    file.write_text("as it was")
    wrong: list[tuple[list[str], Tensor, tuple[int, int] | None, str]] = [
        ([], torch.zeros(0, 2, 2), None, "there are no words to draw: expected one or more"),
        (
            ["a"],
            torch.zeros(2, 2, 2),
            None,
            r"weights has shape \(2, 2, 2\): expected \(1, rows, columns\), or \(1, S\)",
        ),
        (
            ["a"],
            torch.zeros(1, 4),
            None,
            r"weights has shape \(1, 4\): expected \(1, rows, columns\), or \(1, S\) and a grid",
        ),
        (["a"], torch.zeros(1, 0, 4), None, r"weights has shape \(1, 0, 4\)"),
        (["a"], torch.zeros(1, 4), (2, 3), r"has shape \(1, 4\): expected \(1, 6\), .* a cell of the 2 × 3 grid"),
        (["a"], torch.zeros(1, 2, 2), (2, 2), r"has shape \(1, 2, 2\): expected \(1, 4\)"),
    ]
    for words, weights, grid, message in wrong:
        with pytest.raises(ValueError, match=message):
            draw_attention(plain(BLUE), words, weights, file, grid)
    for value in (1.5, -0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weights are not all between 0 and 1"):
            draw_attention(plain(BLUE), ["a"], torch.full((1, 2, 2), value), file)
    assert file.read_text() == "as it was"
    draw_attention(plain(BLUE), ["a"], torch.full((1, 2, 2), 1.0078125), file)  # the next number to 1 in bfloat16
