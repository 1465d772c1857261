"""Killed runs are compared with unbroken ones in all that matters; and what a run is does not depend on its process."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import kill_and_resume as benchmark

ROOT = Path(__file__).parents[2]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A fork has none of its parent's other threads, and must not wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_options_are_checked():
    with pytest.raises(ValueError, match="scripts has train_poet, but must be of train_text_generator, "):
        benchmark.KillAndResumeOptions(scripts="train_translator,train_poet")


@pytest.mark.usefixtures("one_thread")
def test_a_run_that_is_killed_and_one_that_differs(tmp_path):
    benchmark.warm_up()
    benchmark.write_data(tmp_path / "data")
    options = benchmark.KillAndResumeOptions(out=tmp_path, steps=8, seed=1)
    campaign = benchmark.Campaign("train_text_generator", tmp_path / "data", options)
    tally = campaign.tally
    while not tally.kills:
        campaign.break_and_compare()
    assert tally.batches >= 8 and tally.mismatches == []
    assert f"| train_text_generator | {tally.runs} | {tally.kills} | " in tally.row("train_text_generator")

    broken, unbroken = tmp_path / "train_text_generator" / "broken 1", campaign.unbroken
    names = {file.name for file in unbroken.iterdir()}
    assert {"resume.safetensors", "resume.previous.safetensors", "model.safetensors", "metrics.json"} < names
    for name in names - {"config.yaml"}:
        content = (broken / name).read_bytes()
        other = content.replace(b"e", b"\xc3\xa9", 1) if name.endswith((".json", ".jsonl")) else content[:-1] + b"\x7f"
        (broken / name).write_bytes(other)
        assert list(benchmark.differences(broken, unbroken)) == [f"{name} differs"]
        (broken / name).write_bytes(content)
    (broken / "more").touch()
    assert list(benchmark.differences(broken, unbroken)) == ["only one of them has more"]


@pytest.mark.parametrize(("seen", "is_found"), [("abcd", False), ("cd", False), ("", False), ("ac", True), ("x", True)])
def test_batches_that_the_unbroken_run_did_not_see_in_that_order(seen, is_found):
    campaign = object.__new__(benchmark.Campaign)
    campaign.tally, campaign.batches = benchmark.Tally(), [["batch", name] for name in "abcd"]
    notes = [["moment", "open file"], *(["batch", name] for name in seen)]
    campaign._compare_batches(SimpleNamespace(log="log 3", notes=lambda: notes))
    assert campaign.tally.mismatches == (["log 3 has other batches than the unbroken run"] if is_found else [])
    assert campaign.tally.batches == len(seen)


def test_only_times_may_differ(tmp_path):
    line = '{"step": 1, "training_minutes": %s, "loss": %s}\n'
    for name, minutes, loss in (("a", 1, 0.5), ("b", 2, 0.5), ("c", 1, 0.25)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(line % (minutes, loss))
    assert list(benchmark.differences(tmp_path / "a", tmp_path / "b")) == []
    assert list(benchmark.differences(tmp_path / "a", tmp_path / "c")) == ["metrics.jsonl differs"]


def test_damage_changes_a_file(tmp_path):
    dice = random.Random(0)
    for _ in range(20):
        (tmp_path / "file").write_bytes(b"whole")
        assert benchmark.damage(tmp_path / "file", dice) == (tmp_path / "file").read_bytes() != b"whole"


def run_command(folder: Path, *arguments: object, **environment: str) -> str:
    command = [sys.executable, "-m", "benchmarks.kill_and_resume", "--out", folder, *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.slow
def test_every_script_survives_kills(tmp_path):
    rows = run_command(tmp_path / "runs", "--kills", "2", "--steps", "12").splitlines()[2:7]
    assert len(rows) == 5 and all(row.endswith("| 0 |") for row in rows)


@pytest.mark.slow
def test_every_script_gives_the_same_bits_in_processes_with_other_hashes(tmp_path):
    for seed in ("1", "2"):
        run_command(tmp_path / "runs", "--kills", "0", PYTHONHASHSEED=seed)
        shutil.move(tmp_path / "runs", tmp_path / seed)
    for script in benchmark.RUNS:
        runs = [tmp_path / seed / script / "unbroken" for seed in ("1", "2")]
        assert list(benchmark.differences(*runs)) == [], script
