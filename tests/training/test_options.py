"""Training options that make no sense are refused when they are made."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from zoo.training import TrainingOptions
from zoo.training.options import RESUMABLE_CHANGES


def make(**changes: Any) -> TrainingOptions:
    return TrainingOptions(**({"out": Path("run"), "max_steps": 1} | changes))


@pytest.mark.parametrize("name", ["epochs", "max_steps", "max_minutes"])
def test_one_limit_is_enough_and_must_be_above_0(name: str) -> None:
    assert getattr(TrainingOptions(out=Path("run"), **{name: 2}), name) == 2
    for value in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"{name} is .* must be above 0"):
            make(**{name: value})


def test_no_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="one of epochs, max_steps and max_minutes must be given"):
        TrainingOptions(out=Path("run"))


@pytest.mark.parametrize("name", ["batch_size", "accumulate", "evaluations", "patience"])
@pytest.mark.parametrize("value", [0, -3])
def test_counts_are_at_least_1(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}, but must be at least 1"):
        make(**{name: value})


@pytest.mark.parametrize("name", ["learning_rate", "matrix_learning_rate", "gradient_clip", "save_minutes"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_rates_are_above_0(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}, but must be above 0"):
        make(**{name: value})


@pytest.mark.parametrize(
    "change",
    [
        {"warmup": -0.1},
        {"warmup": 1.0},
        {"weight_decay": -1e-3},
        {"weight_decay": float("nan")},
        {"seed": 2**64},
    ],
)
def test_a_number_out_of_its_range(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(change))} is"):
        make(**change)


def test_overwrite_and_resume_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="overwrite and resume were both given"):
        make(overwrite=True, resume=True)


def test_tensorboard_that_is_not_installed_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'sequence-zoo\[tensorboard\]'"):
        make(tensorboard=True)


def test_what_may_change_at_a_resumption_are_options() -> None:
    # Where features are kept, and how much of the n-grams the last figures have, are options of single scripts.
    assert {field.name for field in fields(TrainingOptions)} | {"cache", "markov_weight"} >= RESUMABLE_CHANGES
