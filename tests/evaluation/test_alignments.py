import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.evaluation.alignments import CELL_INCHES, draw_alignment

SOURCE = ["Ein", " Mann", " schläft", "."]
TARGET = ["A", " man", " sleeps"]
WEIGHTS = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.8, 0.1, 0.0], [0.0, 0.1, 0.6, 0.3]]
CELL = round(CELL_INCHES * 120)  # pixels
DARKEST = (8, 48, 107)  # the end of "Blues"


def picture(
    folder: Path, source: Sequence[str], target: Sequence[str], weights: Sequence[Sequence[float]] | Tensor
) -> np.ndarray:
    file = folder / "alignment.png"
    draw_alignment(source, target, weights, file)
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert list(folder.iterdir()) == [file]
    return (matplotlib.image.imread(file)[..., :3] * 255).round().astype(int)


def dark_cells(image: np.ndarray) -> list[tuple[int, int]]:
    """(row, column) of the first pixel of each cell of weight 1, from the first such cell."""
    dark = (image == DARKEST).all(axis=2)
    # A whole cell, less its edges: the colour bar has this colour only at its very end.
    inner = CELL - 6
    filled = np.lib.stride_tricks.sliding_window_view(dark, (inner, inner)).all(axis=(2, 3))
    places = np.argwhere(filled)
    cells = {(int((y - places[0][0] + 3) // CELL), int((x - places[:, 1].min() + 3) // CELL)) for y, x in places}
    return sorted(cells)


def test_the_picture_changes_with_each_input_and_not_with_their_types(tmp_path: Path) -> None:
    first = picture(tmp_path, SOURCE, TARGET, WEIGHTS)
    tensor = torch.tensor(WEIGHTS, requires_grad=True)
    assert np.array_equal(first, picture(tmp_path, tuple(SOURCE), tuple(TARGET), tensor))
    assert np.array_equal(first, picture(tmp_path, SOURCE, TARGET, [row.detach() for row in tensor]))
    assert np.array_equal(first, picture(tmp_path, SOURCE, TARGET, tensor.double()))
    assert picture(tmp_path, SOURCE, TARGET, tensor.bfloat16()).shape == first.shape
    assert not np.array_equal(first, picture(tmp_path, SOURCE, TARGET, WEIGHTS[::-1]))
    assert not np.array_equal(first, picture(tmp_path, ["Kein", *SOURCE[1:]], TARGET, WEIGHTS))
    assert not np.array_equal(first, picture(tmp_path, SOURCE, ["The", *TARGET[1:]], WEIGHTS))
    # A blank is part of a token: " man" and "man" are two entries of a vocabulary.
    assert not np.array_equal(first, picture(tmp_path, SOURCE, ["A", "man", " sleeps"], WEIGHTS))


def test_a_row_is_a_target_token_and_a_column_a_source_token(tmp_path: Path) -> None:
    weights = torch.zeros(3, 5)
    for row, column in ((0, 0), (1, 3), (2, 1)):
        weights[row, column] = 1
    image = picture(tmp_path, list("abcde"), list("xyz"), weights)
    assert dark_cells(image) == [(0, 0), (1, 3), (2, 1)]
    # The colours' scale is the same whatever the weights.
    assert dark_cells(picture(tmp_path, list("abcde"), list("xyz"), weights / 2)) == []


@pytest.mark.parametrize(("targets", "sources"), [(1, 1), (1, 80), (80, 1), (80, 80)])
def test_sizes_are_sensible(tmp_path: Path, targets: int, sources: int, recwarn: pytest.WarningsRecorder) -> None:
    weights = torch.full((targets, sources), 1 / sources)
    image = picture(tmp_path, ["token"] * sources, ["token"] * targets, weights)
    height, width = image.shape[:2]
    assert min(targets * 25, 2000) < height < targets * CELL + 300
    assert min(sources * 25, 2000) < width < sources * CELL + 300
    assert not recwarn.list


def test_more_tokens_make_smaller_cells(tmp_path: Path) -> None:
    image = picture(tmp_path, ["token"] * 200, ["token"] * 150, torch.full((150, 200), 1 / 200))
    assert max(image.shape) < 2600


def test_long_tokens_are_cut(tmp_path: Path) -> None:
    image = picture(tmp_path, ["x" * 5000], ["日" * 5000], [[1.0]])
    assert max(image.shape) < 700


@pytest.mark.parametrize(
    "tokens",
    [
        ["$a$", "$$", "a $ b $ c", "\\frac{", "_^%#&"],
        ["", " ", "\n", "\t", "\r\n", "a\n\nb"],
        ["\x00", "\x1b[2J", "\x9b", "\x7f", "\ud800", "\u2028", "\uffff", "\U000e0001"],
        ["日本語", "नमस्ते", "ไทย", "مرحبا", "שלום", "\u202eabc", "e\u0301", "\u0301"],
        ["😀", "👨‍👩‍👧", "🇩🇪", "\ufe0f"],
    ],
)
def test_any_tokens_can_be_drawn(tmp_path: Path, tokens: list[str], recwarn: pytest.WarningsRecorder) -> None:
    image = picture(tmp_path, tokens, tokens[::-1], torch.eye(len(tokens)))
    assert max(image.shape) < 1000
    assert not recwarn.list


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(), max_size=30), min_size=1, max_size=6))
def test_any_characters_can_be_drawn(tmp_path: Path, recwarn: pytest.WarningsRecorder, tokens: list[str]) -> None:
    picture(tmp_path, tokens, ["target"], [[1.0] * len(tokens)])
    assert not recwarn.list


def test_matplotlibs_global_state_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, zoo.evaluation.alignments as a; before = 'matplotlib' in sys.modules;"
        "a.draw_alignment(['a'], ['b'], [[1.0]], pathlib.Path(sys.argv[1]));"
        "sys.exit(before or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.png")], check=False).returncode == 0


def test_a_weight_may_be_rounded_above_one_but_not_be_a_score(tmp_path: Path) -> None:
    picture(tmp_path, ["a"], ["b"], [[1.0078125]])  # the next number to 1 in bfloat16
    for wrong in (1.5, -0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not all between 0 and 1"):
            draw_alignment(["a"], ["b"], [[wrong]], tmp_path / "alignment.png")


def test_errors_say_what_was_given_and_expected_and_leave_the_file(tmp_path: Path) -> None:
    file = tmp_path / "alignment.png"
    file.write_text("as it was")
    wrong: list[tuple[list[str], list[str], list[list[float]] | Tensor, str]] = [
        (SOURCE, TARGET, WEIGHTS[:2], "weights has 2 rows: expected 3, one a target token"),
        (SOURCE, TARGET, torch.tensor(WEIGHTS).T, "weights has 4 rows: expected 3"),
        (SOURCE[:3], TARGET, WEIGHTS, r"row 0 of weights has shape \(4,\): expected \(3,\)"),
        (SOURCE, TARGET, [*WEIGHTS[:2], [1.0]], r"row 2 of weights has shape \(1,\): expected \(4,\)"),
        (SOURCE, TARGET, torch.zeros(3), r"row 0 of weights has shape \(\): expected \(4,\)"),
        (SOURCE, TARGET, torch.zeros(3, 2, 4), r"row 0 of weights has shape \(2, 4\): expected \(4,\)"),
        ([], TARGET, [[], [], []], "there are 0 source tokens and 3 target tokens: expected one or more"),
        (SOURCE, [], [], "there are 4 source tokens and 0 target tokens"),
    ]
    for source, target, weights, message in wrong:
        with pytest.raises(ValueError, match=message):
            draw_alignment(source, target, weights, file)
    assert file.read_text() == "as it was"
