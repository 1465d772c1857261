"""A disk that is full: one line, exit code 2, the last good save, and nothing half written."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from zoo.one_to_many import TextGenerator

Run = Callable[..., Any]
OPTIONS = {"max_steps": 6, "evaluations": 3, "save_minutes": 1e-9, "dropout": 0.2}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk needs the right to mount one")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes, which a write tells as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_failed(result: Any, said: str) -> None:
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith("error: ") and said in result.err


def assert_same_end(whole: Path, cut: Path) -> None:
    ends = [load_file(folder / "resume.safetensors") for folder in (whole, cut)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    for name in ("model.safetensors", "samples.txt"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name
    assert {file.name for file in whole.iterdir()} == {file.name for file in cut.iterdir()}


@pytest.fixture(scope="module")
def whole(finish: Callable[..., Path], text_file: Path) -> Path:
    return finish("train_text_generator", data=text_file, **OPTIONS)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
    return ballast


def test_a_small_disk_that_fills_up(train: Run, small_disk: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, losses = small_disk / "run", []
    loss = TextGenerator.loss_and_state

    def filling(self: TextGenerator, *arguments: Any) -> Any:
        losses.append(1)
        if len(losses) == 4:
            fill(small_disk)
        return loss(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TextGenerator, "loss_and_state", filling)
        assert_failed(train(run, **OPTIONS), f"No space left on device: '{run}/")
    assert not list(run.glob("*.partial"))
    assert_failed(train(run, "--resume", **OPTIONS), f"No space left on device: '{run}/")
    (small_disk / "ballast").unlink()
    resumed = train(run, "--resume", **OPTIONS)
    assert (resumed.code, "step 2:" in resumed.out, "step 4:" in resumed.out) == (0, False, True)
    assert_same_end(whole, run)


def test_no_room_for_any_save(train: Run, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    with largest_file((whole / "resume.safetensors").stat().st_size // 2):
        assert_failed(train(run, **OPTIONS), f"File too large: '{run / 'resume.safetensors'}'")
    assert not list(run.glob("*resume*"))
    assert train(run, "--resume", **OPTIONS).is_an_error("the run was not saved once; start it again with --overwrite")
    assert train(run, "--overwrite", **OPTIONS).code == 0
    assert_same_end(whole, run)


def test_no_room_for_the_pictures(
    train: Run, train_script: ModuleType, small_disk: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_disk / "run"
    with monkeypatch.context() as patch:
        draw = train_script.draw_curves
        patch.setattr(train_script, "draw_curves", lambda *arguments: (fill(small_disk), draw(*arguments)))
        assert_failed(train(run, **OPTIONS), f"No space left on device: '{run / 'curves.png'}'")
    assert not (run / "curves.png").exists()
    (small_disk / "ballast").unlink()
    assert train(run, "--resume", **OPTIONS).code == 0
    assert_same_end(whole, run)
