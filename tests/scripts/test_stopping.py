"""Real processes that are stopped: by SIGTERM, by Ctrl-C, and by SIGKILL without a word."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

Run = Callable[..., Any]
Spawn = Callable[..., "subprocess.Popen[str]"]
TIMES = ("training_minutes", "tokens_per_second")
EVALUATIONS = 5
OPTIONS = {
    "max_steps": 100,
    "evaluations": EVALUATIONS,
    "dropout": 0.2,
    "embedding_dropout": 0.1,
    "learning_rate": 0.02,
}


def timeless(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


@pytest.fixture(autouse=True, scope="module")
def samples_as_long_as_a_real_process_writes_them(train_script: ModuleType) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_script, "SAMPLE_TOKENS", 200)
        patch.setattr(train_script, "FINAL_SAMPLE_TOKENS", 300)
        yield


@pytest.fixture(scope="module")
def unbroken(finish: Callable[..., Path], text_file: Path) -> Path:
    return finish("train_text_generator", data=text_file, **OPTIONS)


def start(spawn: Spawn, tiny_arguments: Callable[..., list[str]], out: Path, data: Path, **changes: object) -> Any:
    """A training process, once it has been saved."""
    options = tiny_arguments("train_text_generator", **(OPTIONS | {"data": data} | changes))
    process = spawn("train_text_generator", "--out", out, *options)
    deadline = time.monotonic() + 60
    while not (out / "resume.safetensors").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def assert_equals(folder: Path, unbroken: Path) -> None:
    assert timeless(folder) == timeless(unbroken)
    for name in ("model.safetensors", "samples.txt", "tokenizer.json", "config.json"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes(), name
    ends = [load_file(path / "resume.safetensors") for path in (folder, unbroken)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_killed_at_any_moment_and_resumed(
    spawn: Spawn,
    run: Run,
    train_script: ModuleType,
    tiny_arguments: Callable[..., list[str]],
    unbroken: Path,
    tmp_path: Path,
    text_file: Path,
) -> None:
    folder = tmp_path / "broken"
    # Saved after nearly every step, so that the kill is likely to fall into a save.
    process = start(spawn, tiny_arguments, folder, text_file, save_minutes=1e-9)
    time.sleep(random.uniform(0, 0.5))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    stopped_at = len(timeless(folder)) if (folder / "metrics.jsonl").exists() else 0
    assert stopped_at < EVALUATIONS
    resumed = run(train_script, "--config", folder / "config.yaml", "--resume")
    assert (resumed.code, resumed.err) == (0, "")
    assert_equals(folder, unbroken)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_request_to_stop_saves_and_says_how_to_go_on(
    spawn: Spawn,
    tiny_arguments: Callable[..., list[str]],
    unbroken: Path,
    tmp_path: Path,
    text_file: Path,
    number: signal.Signals,
    code: int,
) -> None:
    folder = tmp_path / "with a blank"
    process = start(spawn, tiny_arguments, folder, text_file)
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, err) == (code, "")
    assert len(timeless(folder)) < EVALUATIONS
    assert not (folder / "metrics.json").exists()
    said, command = out.rstrip("\n").splitlines()[-2:]
    assert said.startswith("stopped at step ")
    assert said.endswith(" and saved; to go on:")

    env = os.environ | {"OMP_NUM_THREADS": "1"}
    resumed = subprocess.run(command, shell=True, env=env, capture_output=True, text=True, check=False)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert_equals(folder, unbroken)
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 100
