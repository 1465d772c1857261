"""The run folder: what a training script leaves behind, and the rules for writing into one.

config.yaml        every option of the run; `--config` takes it
config.json, model.safetensors, tokenizer.json, README.md
                   the best model so far; `from_pretrained` takes the folder
metrics.jsonl      a line an evaluation
metrics.json       the final figures
curves.png         the loss and the metric over the run
samples.txt        what the model made at each evaluation
resume.safetensors the last save, for --resume
"""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import InputError
from zoo.files import write_atomically, write_json_lines
from zoo.options_file import read_options_file
from zoo.training.options import RESUMABLE_CHANGES

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
        InputError: something is at `path` that must not be replaced, there is nothing to resume, or the options
            of the run to resume are others.
    """

    def __init__(self, path: Path, options: dict[str, Any], overwrite: bool = False, resume: bool = False) -> None:
        self.path = path
        # Those two say what to do with a folder that is there, which is not what it will say of itself.
        self.options = {name: value for name, value in options.items() if name not in ("overwrite", "resume")}
        check_run_folder(path, overwrite, resume)
        if resume:
            self._check_same_options()
        elif overwrite and path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / CONFIG, yaml.safe_dump(self.options, sort_keys=False, allow_unicode=True))

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

    def resume_command(self) -> str:
        """What to type to go on with this run, for a shell."""
        return shlex.join([sys.executable, sys.argv[0], "--config", str(self.path / CONFIG), "--resume"])

    def forget_after(self, step: int) -> None:
        """Drop evaluation lines and samples after `step`: a resumed run makes them again."""
        kept = [line for line in self.history() if line["step"] <= step]
        write_json_lines(self.path / HISTORY, kept)
        file = self.path / SAMPLES
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        headings = {f"step {line['step']}" for line in kept}
        others = (
            found.start() for found in re.finditer(r"^--- (.+) ---$", text, re.MULTILINE) if found[1] not in headings
        )
        write_atomically(file, text[: next(others, None)])

    def log(self, figures: dict[str, Any], sample: str) -> None:
        """Add an evaluation: its figures, one JSON line, and its sample."""
        with (self.path / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        with (self.path / SAMPLES).open("a", encoding="utf-8") as file:
            file.write(f"--- step {figures['step']} ---\n{sample}\n\n")

    def history(self) -> list[dict[str, Any]]:
        """Every evaluation so far."""
        file = self.path / HISTORY
        if not file.exists():
            return []
        lines = []
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):  # the line that a kill cut short
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
        if not (path / CHECKPOINT).is_file():
            raise InputError(f"{path} has no {CHECKPOINT}: the run was not saved once; start it again with --overwrite")
        return
    if not path.exists() or not any(path.iterdir()):
        return
    if not is_run:
        raise InputError(f"{path} is not empty and not a run folder; it is never overwritten: choose another --out")
    if not overwrite:
        raise InputError(f"{path} holds a run: add --resume to go on with it, or --overwrite to replace it")


def _is_run(path: Path) -> bool:
    # Other programs' folders have a config.yaml too, and a folder taken for a run may be deleted.
    try:
        options = read_options_file(path / CONFIG)
    except InputError:
        return False
    return isinstance(options, dict) and {"out", "seed", "learning_rate"} <= options.keys()
