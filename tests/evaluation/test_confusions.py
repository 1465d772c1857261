from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.evaluation.confusions import draw_confusions

TARGETS = torch.tensor([0, 0, 0, 1, 1, 2])
PREDICTIONS = torch.tensor([0, 0, 1, 1, 1, 0])
LABELS = ["first", "second", "third"]


def picture(folder: Path, targets: Tensor, predictions: Tensor, labels: list[str]) -> np.ndarray:
    file = folder / "confusions.png"
    draw_confusions(targets, predictions, labels, file)
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    return matplotlib.image.imread(file)


def test_the_picture_shows_what_was_confused_and_how_often(tmp_path: Path) -> None:
    first = picture(tmp_path, TARGETS, PREDICTIONS, LABELS)
    assert np.array_equal(first, picture(tmp_path, TARGETS.flip(0), PREDICTIONS.flip(0), LABELS))
    assert not np.array_equal(first, picture(tmp_path, PREDICTIONS, TARGETS, LABELS))
    # The same shares, but other numbers.
    assert not np.array_equal(first, picture(tmp_path, TARGETS.repeat(2), PREDICTIONS.repeat(2), LABELS))
    assert not np.array_equal(first, picture(tmp_path, TARGETS, PREDICTIONS, ["first", "second", "3rd"]))


def test_with_many_labels_there_are_colours_but_no_numbers(tmp_path: Path) -> None:
    for count, numbers in ((30, True), (31, False)):
        labels = [f"label {number}" for number in range(count)]
        targets, predictions = torch.arange(count), torch.arange(count).roll(1)
        once = picture(tmp_path, targets, predictions, labels)
        twice = picture(tmp_path, targets.repeat(2), predictions.repeat(2), labels)
        assert np.array_equal(once, twice) != numbers


def test_colour_is_the_share_of_the_row(tmp_path: Path) -> None:
    def full(targets: list[int], predictions: list[int]) -> int:
        """The area in the colour of a share of 1, the end of "Blues"."""
        image = picture(tmp_path, torch.tensor(targets), torch.tensor(predictions), ["a", "b"])
        return int(((image[..., :3] * 255).round() == (8, 48, 107)).all(axis=2).sum())

    both = full([0, 0, 0, 0, 1], [0, 0, 0, 0, 1])  # two cells, though one row has few texts
    one = full([0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1])
    assert both - one == pytest.approx(one, rel=0.1)
    assert full([0, 0, 1, 1], [0, 1, 0, 1]) < 0.1 * one
    # With numbers left out, a row's number of texts makes no difference at all.
    labels = [str(number) for number in range(31)]
    numbers = torch.arange(31)
    more = torch.cat([numbers, torch.zeros(5, dtype=torch.long)])
    assert np.array_equal(picture(tmp_path, more, more, labels), picture(tmp_path, numbers, numbers, labels))


@pytest.mark.parametrize("labels", [["a", "b"], ["$a$", "b $ c $"], ["a" * 200, "\\alpha"], ["日本", "😀"]])
def test_any_names_and_a_single_text_will_do(
    tmp_path: Path, labels: list[str], recwarn: pytest.WarningsRecorder
) -> None:
    image = picture(tmp_path, torch.tensor([1]), torch.tensor([0]), labels)
    assert image.min() < 0.5
    assert max(image.shape) < 1000
    assert not recwarn.list


def test_a_hundred_labels_stay_in_bounds(tmp_path: Path) -> None:
    numbers = torch.arange(100)
    image = picture(tmp_path, numbers, numbers, [f"label {number}" for number in range(100)])
    assert 1500 < max(image.shape) < 3000


def test_errors_say_what_was_given_and_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="predictions go from 0 to 1: expected 0 to 0"):
        draw_confusions(torch.tensor([0, 0]), torch.tensor([0, 1]), ["one"], tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"targets has shape \(0,\)"):
        draw_confusions(torch.tensor([]), torch.tensor([]), LABELS, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
