"""The soak says what grew, and a round of it trains and uses what it trained."""

import pytest

from benchmarks.small_data import write_data
from benchmarks.soak import Held, SoakOptions, change, load, train_and_use
from zoo.errors import InputError


def rounds(sizes, files):
    return [
        Held(minute, size, count, 2) for minute, (size, count) in enumerate(zip(sizes, files, strict=True), start=1)
    ]


def test_growth_counts_from_when_it_is_warm():
    assert change(rounds([10, 50, 90, 100, 100, 100, 100, 100, 103, 103], [5] * 10)) == (pytest.approx(0.03), 0)
    flat = [100] * 10
    assert change(rounds(flat, [3, 4, 5, 5, 5, 5, 5, 5, 5, 5])) == (0, 0)
    assert change(rounds(flat, [5, 5, 5, 5, 5, 6, 6, 7, 7, 8])) == (0, 2)
    with pytest.raises(InputError, match="2 rounds are too few"):
        change(rounds([1, 2], [1, 1]))


def test_a_round_of_one_script(tmp_path):
    write_data(tmp_path / "data")
    options = SoakOptions(steps=2, out=tmp_path)
    module = load("train_text_classifier")
    train_and_use("train_text_classifier", module, options)
    assert (tmp_path / "train_text_classifier" / "metrics.json").exists()
