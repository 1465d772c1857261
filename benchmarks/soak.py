"""Training and decoding over and over in one process: memory must stay as it is, and no file may stay open.

    python -m benchmarks.soak                      # half an hour
    python -m benchmarks.soak --minutes 5

A round trains with each of the five training scripts, each by its `main`, loads what it trained, and generates,
captions, classifies or translates with it. After each round resident memory, open files and threads are counted. Two
fifths of the time count as warming up (allocators and caches fill); of what follows, the first and the last third are
compared by their medians. It ends with exit code 1 where memory has grown by more than 2 % or a file was left open.
Needs Linux.
"""

import contextlib
import io
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.kill_and_resume import RUNS
from benchmarks.small_data import write_data
from benchmarks.tables import markdown_head, markdown_row
from benchmarks.training_runs import arguments, load
from zoo.command_line import parse_options, run_script
from zoo.errors import InputError
from zoo.many_to_one import TextClassifier
from zoo.one_to_many import ImageCaptioner, TextGenerator
from zoo.one_to_one import ImageClassifier
from zoo.seq2seq import Translator

GROWTH = 0.02
WARMING_UP = 0.4
PICTURE: Tensor = torch.randint(256, (3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LARGER: dict[str, object] = {"hidden_size": 128, "embedding_size": 64}
USES: dict[str, Callable[[Path], object]] = {
    "train_text_generator": lambda run: TextGenerator.from_pretrained(run).generate("un", max_new_tokens=500, seed=0),
    "train_text_classifier": lambda run: TextClassifier.from_pretrained(run).classify(["one two", "three"] * 50),
    "train_translator": lambda run: Translator.from_pretrained(run).translate(["one two three"] * 20),
    "train_image_captioner": lambda run: ImageCaptioner.from_pretrained(run).caption([PICTURE] * 20),
    "train_image_classifier": lambda run: ImageClassifier.from_pretrained(run).classify([PICTURE] * 20),
}


@dataclass
class SoakOptions:
    """How long.

    Args:
        minutes: Rounds are begun for so long.
        steps: Training steps of each script in a round.
        out: Folder for the runs; it is replaced.
    """

    minutes: float = 30.0
    steps: int = 40
    out: Path = Path("runs/soak")

    def __post_init__(self) -> None:
        if self.minutes <= 0 or self.steps < 1:
            raise ValueError(f"minutes is {self.minutes} and steps {self.steps}, but both must be above 0")


class Held(NamedTuple):
    """What the process holds after a round."""

    minute: float
    bytes: int
    files: int
    threads: int

    def shown(self) -> tuple[str, ...]:
        return (f"{self.minute:.1f}", f"{self.bytes / 2**20:.1f}", str(self.files), str(self.threads))


def main() -> int:
    (options,) = parse_options(__doc__ or "", SoakOptions)
    shutil.rmtree(options.out, ignore_errors=True)
    write_data(options.out / "data")
    modules = {script: load(script) for script in RUNS}
    start = time.monotonic()
    rounds: list[Held] = []
    print(markdown_head(("round", "minute", "MiB", "open files", "threads"), texts=0))
    while time.monotonic() - start < 60 * options.minutes:
        for script, module in modules.items():
            train_and_use(script, module, options)
        rounds.append(held((time.monotonic() - start) / 60))
        print(markdown_row((str(len(rounds)), *rounds[-1].shown())), flush=True)
    growth, leaked = change(rounds)
    print(f"\nafter {len(rounds)} rounds: memory {growth:+.2%}, open files {leaked:+d}")
    return int(growth > GROWTH or leaked > 0)


def train_and_use(script: str, module: Any, options: SoakOptions) -> None:
    """Raise InputError, with what the script printed, where it does not end well."""
    run = options.out / script
    values = RUNS[script] | {key: value for key, value in LARGER.items() if key in RUNS[script]}
    values |= {"data": options.out / "data" / str(values["data"]), "out": run, "overwrite": "true"}
    values |= {"max_steps": options.steps, "evaluations": 2}
    printed = io.StringIO()
    with patch.object(sys, "argv", [script, *arguments(values)]), contextlib.redirect_stdout(printed):
        code = module.main()
    if code:
        raise InputError(f"{script} ended with exit code {code}:\n{printed.getvalue()}")
    USES[script](run)


def held(minute: float) -> Held:
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Held(minute, resident, len(os.listdir("/proc/self/fd")), threading.active_count())


def change(rounds: list[Held]) -> tuple[float, int]:
    """By how much memory (as a share) and open files have grown since the process was warm.

    Raises InputError where there are too few rounds to tell.
    """
    warm = [one for one in rounds if one.minute > WARMING_UP * rounds[-1].minute]
    third = len(warm) // 3
    if third < 1:
        raise InputError(f"{len(rounds)} rounds are too few to compare: give it more minutes, or fewer steps")
    before, after = warm[:third], warm[-third:]
    memory = statistics.median(one.bytes for one in after) / statistics.median(one.bytes for one in before) - 1
    return memory, max(one.files for one in after) - max(one.files for one in before)


if __name__ == "__main__":
    run_script(main)
