"""The facts of a run."""

import importlib.metadata
from pathlib import Path

import pytest
import torch

from zoo.training import Outcome, Progress, TrainingOptions


def test_a_zoo_that_is_not_installed_has_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with PYTHONPATH alone, and only once the training is over."""
    outcome = Outcome(Progress(training_seconds=60.0, tokens=600))

    def versions() -> dict[str, str]:
        options = TrainingOptions(out=Path("run"), max_steps=1)
        found: dict[str, str] = outcome.facts(torch.nn.Linear(1, 1), options, torch.device("cpu"), "float32")[
            "versions"
        ]
        return found

    assert versions()["zoo"] == importlib.metadata.version("sequence-zoo")

    def fail(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("zoo.training.outcome.version", fail)
    assert versions()["zoo"] == "unknown"
