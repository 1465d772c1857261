"""The run folder: what a training script leaves behind, and the rules for writing into one.

config.yaml        every option of the run; `--config` takes it
config.json, model.safetensors, tokenizer.json, README.md
                   the best model so far; `from_pretrained` takes the folder
neighbours.safetensors
                   what an image captioner remembers of images; `from_pretrained` takes it up with the weights
markov.safetensors what a text generator's n-gram model counted; `InterpolatedGenerator` takes both
metrics.jsonl      a line an evaluation
metrics.json       the final figures
curves.png         the loss and the metric over the run
samples.txt        what the model made at each evaluation
resume.safetensors, resume.previous.safetensors
                   the last save, for --resume, and the one before, for --resume_previous
.lock              held by the process that is at work here
"""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import InputError
from zoo.files import PARTIAL, append, write_atomically, write_json_lines
from zoo.options_file import read_options_file
from zoo.pretrained import WEIGHTS_FILE, read_weights
from zoo.training.checkpoint import previous_save
from zoo.training.options import RESUMABLE_CHANGES
from zoo.training.run_lock import LOCK, locked

CONFIG, HISTORY, FIGURES, SAMPLES, CHECKPOINT = (
    "config.yaml",
    "metrics.jsonl",
    "metrics.json",
    "samples.txt",
    "resume.safetensors",
)


class RunFolder:
    """A run's folder, made or opened when the run begins.

    Args:
        path: the folder.
        options: all options of the run, as plain values; they become config.yaml.
        overwrite: delete the run that is there.
        resume: go on with the run that is there.

    Raises:
        InputError: something is at `path` that must not be replaced, there is nothing to resume, the options of the
            run to resume are others, or another process is at work on it.
    """

    def __init__(self, path: Path, options: dict[str, Any], overwrite: bool = False, resume: bool = False) -> None:
        self.path = path
        # They say what to do with a folder that is there, which is not what it will say of itself.
        how = ("overwrite", "resume", "resume_previous")
        self.options = {name: value for name, value in options.items() if name not in how}
        check_run_folder(path, overwrite, resume)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = locked(path)
        if resume:
            self._check_same_options()
            for file in path.glob(PARTIAL.format("*")):
                file.unlink()
        elif overwrite:
            _delete_run(path)
        write_atomically(path / CONFIG, yaml.safe_dump(self.options, sort_keys=False, allow_unicode=True))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None}  # the other processes of the run get the folder, and this one the lock

    def _check_same_options(self) -> None:
        saved = read_options_file(self.path / CONFIG)
        changed = [
            f"{name} was {saved.get(name)!r} and is {self.options.get(name)!r}"
            for name in sorted((saved.keys() | self.options.keys()) - RESUMABLE_CHANGES, key=str)
            if saved.get(name) != self.options.get(name)
        ]
        if changed:
            raise InputError(
                f"{self.path} cannot be resumed with other options: {'; '.join(changed)} "
                f"(use --config {self.path / CONFIG} --resume)"
            )

    @property
    def checkpoint(self) -> Path:
        """Where the last save is."""
        return self.path / CHECKPOINT

    def lasting_options(self) -> dict[str, Any]:
        """The options that a run and its resumption share."""
        return {name: value for name, value in self.options.items() if name not in RESUMABLE_CHANGES}

    def save_to_resume(self, previous: bool) -> Path:
        """The last save, or the one before it. Raises InputError if there is none before it."""
        before = previous_save(self.checkpoint)
        if previous and not before.exists():
            raise InputError(f"{self.path} has no save before the last one: use --resume")
        # A save that was killed in between its two moves has left only the one before, which is the last one then.
        return before if previous or not self.checkpoint.exists() else self.checkpoint

    def go_back_to(self, save: Path, step: int, samples_size: int) -> None:
        """Make `save` the last one, and drop evaluations after it: a resumed run makes them again.

        Args:
            save: the file, from `save_to_resume`.
            step: its step.
            samples_size: what `samples_size` was then.
        """
        save.replace(self.checkpoint)
        write_json_lines(self.path / HISTORY, [line for line in self.history() if line["step"] <= step])
        file = self.path / SAMPLES
        write_atomically(file, file.read_bytes()[:samples_size] if file.exists() else b"")

    def samples_size(self) -> int:
        """How long samples.txt is, in bytes."""
        file = self.path / SAMPLES
        return file.stat().st_size if file.exists() else 0

    def best_weights(self) -> str | None:
        """The checksum of the best model's weights, None where there are none yet. Raises InputError if damaged."""
        file = self.path / WEIGHTS_FILE
        try:
            return read_weights(file)[1] if file.exists() else None
        except InputError as error:
            raise InputError(f"{error}, or remove it: then the next evaluation counts as the best") from error

    def resume_command(self, launcher: list[str]) -> str:
        """What to type to go on with this run, for a shell; `launcher` is what starts a script."""
        return shlex.join([*launcher, sys.argv[0], "--config", str(self.path / CONFIG), "--resume"])

    def log(self, figures: dict[str, Any], sample: str) -> None:
        """Add an evaluation: its figures, one JSON line, and its sample."""
        append(self.path / HISTORY, json.dumps(figures) + "\n")
        self.add_sample(f"step {figures['step']}", sample)

    def add_sample(self, title: str, sample: str) -> None:
        """Add something that the model made to samples.txt."""
        append(self.path / SAMPLES, f"--- {title} ---\n{sample}\n\n")

    def history(self) -> list[dict[str, Any]]:
        """Every evaluation so far."""
        file = self.path / HISTORY
        if not file.exists():
            return []
        lines = []
        for text in file.read_bytes().splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):  # the line that a kill or a full disk cut short
                break
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                break  # written by something else
            lines.append(line)
        return lines

    def finish(self, figures: dict[str, Any]) -> None:
        """Write the final figures."""
        write_atomically(self.path / FIGURES, json.dumps(figures, indent=2) + "\n")


def check_run_folder(path: Path, overwrite: bool, resume: bool) -> None:
    """Raise InputError unless a run may be written to (or gone on with in) `path`; changes nothing."""
    is_run = _is_run(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, but a folder for the run was expected")
    if resume:
        if not is_run:
            raise InputError(f"{path} is not a run folder: there is nothing to resume")
        if not any(save.is_file() for save in (path / CHECKPOINT, previous_save(path / CHECKPOINT))):
            raise InputError(f"{path} has no {CHECKPOINT}: the run was not saved once; start it again with --overwrite")
        return
    # A run that was killed as it began may have left part of its first file.
    if not path.exists() or {file.name for file in path.iterdir()} <= {PARTIAL.format(CONFIG), LOCK}:
        return
    if not is_run:
        raise InputError(f"{path} is not empty and not a run folder; it is never overwritten: choose another --out")
    if not overwrite:
        raise InputError(f"{path} holds a run: add --resume to go on with it, or --overwrite to replace it")


def _delete_run(path: Path) -> None:
    """Saves first and config.yaml last: what a kill leaves cannot be resumed, but is still known as a run.

    The lock stays: another process could take one of the same name at once.
    """
    if path.is_symlink():
        raise InputError(f"{path} is a link, which is not overwritten: give the folder that it points to")
    files = sorted(path.iterdir(), key=lambda file: (file.name == CONFIG, not file.name.startswith("resume.")))
    for file in files:
        if file.name == LOCK:
            continue
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink()


def _is_run(path: Path) -> bool:
    # Other programs' folders have a config.yaml too, and a folder taken for a run may be deleted.
    try:
        options = read_options_file(path / CONFIG)
    except InputError:
        return False
    return isinstance(options, dict) and {"out", "seed", "learning_rate"} <= options.keys()
