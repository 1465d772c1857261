"""Saves under a right checksum that hold something else than a run saves."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.training.outcome import Progress
from zoo.training.save_contents import check_contents, saved_progress

FILE = Path("resume.safetensors")


def optimizers() -> list[torch.optim.Optimizer]:
    return [torch.optim.AdamW(nn.Linear(3, 2).parameters()), torch.optim.Muon([nn.Parameter(torch.zeros(4, 3))])]


def contents() -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {
        "random.cpu": torch.get_rng_state(),
        "carry.0": torch.zeros(1),
        "carry.1": torch.zeros(1),
        "optimizer.1.0.momentum_buffer": torch.zeros(4, 3),
    }
    for index, shape in enumerate(((2, 3), (2,))):
        tensors[f"optimizer.0.{index}.step"] = torch.tensor(3.0)
        tensors |= {f"optimizer.0.{index}.{key}": torch.zeros(shape) for key in ("exp_avg", "exp_avg_sq")}
    return tensors, {"progress": json.dumps({"step": 1}), "numbers": "{}"}


def test_what_a_run_saves_is_accepted() -> None:
    check_contents(FILE, *contents(), optimizers())
    tensors = {name: tensor for name, tensor in contents()[0].items() if name == "random.cpu"}
    check_contents(FILE, tensors, contents()[1], optimizers())  # before the first step


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, metadata: tensors.pop("random.cpu"),
        lambda tensors, metadata: tensors.update({"random.cpu": torch.zeros(9, dtype=torch.uint8)}),
        lambda tensors, metadata: tensors.update({"random.cpu": torch.get_rng_state().float()}),
        lambda tensors, metadata: tensors.pop("carry.0"),
        lambda tensors, metadata: tensors.update({"carry.x": torch.zeros(1)}),
        lambda tensors, metadata: tensors.pop("optimizer.0.1.exp_avg"),
        lambda tensors, metadata: tensors.pop("optimizer.0.0.step"),
        lambda tensors, metadata: tensors.update({"optimizer.0.-1.step": torch.tensor(1.0)}),
        lambda tensors, metadata: tensors.update({"optimizer.0.0": torch.tensor(1.0)}),
        lambda tensors, metadata: tensors.update({"optimizer.0.0.step": torch.ones(1)}),
        lambda tensors, metadata: tensors.update({"optimizer.0.0.step": torch.tensor(True)}),
        lambda tensors, metadata: tensors.update({"optimizer.0.0.exp_avg": torch.tensor(1.0)}),
        lambda tensors, metadata: tensors.update({"process.1.random.cpu": torch.zeros(9, dtype=torch.uint8)}),
        lambda tensors, metadata: tensors.update({"optimizer.1.0.momentum_buffer": torch.zeros(4, 3).bool()}),
        lambda tensors, metadata: metadata.update(progress="[]"),
        lambda tensors, metadata: metadata.update(progress="{"),
        lambda tensors, metadata: metadata.pop("numbers"),
        lambda tensors, metadata: metadata.update(numbers='{"optimizer.0.0.step": 1}'),
        lambda tensors, metadata: metadata.update(numbers="[" * 100_000),
    ],
)
def test_other_contents_are_refused(change: Callable[[dict[str, Tensor], dict[str, str]], Any]) -> None:
    tensors, metadata = contents()
    change(tensors, metadata)
    with pytest.raises(InputError, match=r"resume.safetensors has other things in it than a run saves"):
        check_contents(FILE, tensors, metadata, optimizers())


def test_progress_comes_back() -> None:
    progress = Progress(data="data", precision="float32", step=3, best=0.5, training_seconds=1.5, running_loss=2.0)
    assert saved_progress(FILE, json.loads(json.dumps(asdict(progress)))) == progress
    assert saved_progress(FILE, asdict(Progress())) == Progress()


@pytest.mark.parametrize(
    "change", [{"step": "3"}, {"step": 1.5}, {"ended": 1}, {"best": "x"}, {"more": 1}, {"data": None}]
)
def test_other_progress_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"resume.safetensors does not say where its run was"):
        saved_progress(FILE, asdict(Progress()) | change)


def test_missing_progress_is_refused() -> None:
    with pytest.raises(InputError, match="does not say"):
        saved_progress(FILE, {"step": 1})
