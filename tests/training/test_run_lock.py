"""Two processes and one run folder."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from zoo.errors import InputError
from zoo.training import RunFolder

OPTIONS: dict[str, Any] = {"out": "run", "seed": 3, "learning_rate": 1e-3}
HOLD = f"""
import sys, pathlib, zoo.training
run = zoo.training.RunFolder(pathlib.Path(sys.argv[1]), {OPTIONS})
run.checkpoint.touch()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def holder(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process, at work in that folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_until_the_first_is_gone(folder: Path, holder: "subprocess.Popen[str]") -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for how in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match=r"another process is at work in .*run: wait for its end, or stop it$"):
            RunFolder(folder, OPTIONS, **how)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    holder.kill()  # SIGKILL, of which no process can say anything
    holder.wait()
    for how in ({"resume": True}, {"overwrite": True}):
        RunFolder(folder, OPTIONS, **how)


def test_a_run_that_is_replaced_is_locked_too(folder: Path) -> None:
    for _ in range(2):
        run = RunFolder(folder, OPTIONS, overwrite=True)
        command = [sys.executable, "-c", HOLD.replace("})", "}, overwrite=True)"), str(folder)]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "another process is at work in" in other.stderr
        assert run.path == folder


def test_the_other_processes_of_a_run_get_its_folder_without_the_lock(folder: Path) -> None:
    run = RunFolder(folder, OPTIONS)
    other = pickle.loads(pickle.dumps(run))
    assert (other.path, other.options) == (run.path, run.options)


def test_a_folder_in_which_a_run_was_killed_with_nothing_but_its_lock(folder: Path) -> None:
    folder.mkdir()
    (folder / ".lock").touch()
    RunFolder(folder, OPTIONS)
    assert (folder / "config.yaml").exists()


@pytest.mark.parametrize("error", [OSError(95, "Operation not supported"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_is_one_to_train_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(self: Any, *arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(filelock.BaseFileLock, "acquire", fail)
    RunFolder(folder, OPTIONS)
    assert (folder / "config.yaml").exists()
    assert f"note: {folder} cannot be locked" in capsys.readouterr().out
