"""Runs of the five training scripts that are killed at random moments and resumed, beside runs that were left alone.

    python -m benchmarks.kill_and_resume                                   # 20 kills a script, some minutes
    python -m benchmarks.kill_and_resume --scripts train_translator --kills 3

A process is ended by SIGKILL: half the time by the clock, half the time at a moment drawn from those at which it
touches its run folder (before a file is opened, with part of it written, before it takes its name), because a save is
short. Some saves are then damaged, and the one before is used. In the end the run folder, the final figures and each
batch that any of the processes saw must be those of the unbroken run, bit for bit; only times may differ. The processes
are forks of this one, which has everything imported, and each runs its script's `main`. Needs Linux.
"""

import json
import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open

from benchmarks.observed_process import Process
from benchmarks.run_differences import differences
from benchmarks.small_data import write_data
from benchmarks.training_runs import arguments, load
from zoo.command_line import parse_options, run_script
from zoo.errors import InputError

EVERY_RUN = {"device": "cpu", "precision": "float32", "evaluations": 6, "save_minutes": 1e-6, "dropout": 0.2}
SMALL = {"hidden_size": 8, "embedding_size": 8, "batch_size": 8}
IMAGES = {"image_size": 16, "augment": "shift"}
RUNS: dict[str, dict[str, object]] = {
    "train_text_generator": SMALL | {"data": "notes.txt", "window": 8, "ngram_buckets": 50, "markov_order": 3},
    "train_text_classifier": SMALL | {"data": "parity.csv", "ngram_buckets": 50, "markov_order": 3},
    "train_translator": SMALL | {"data": "digits", "source": "en", "target": "fr", "num_heads": 2},
    "train_image_captioner": SMALL | IMAGES | {"data": "captioned", "num_heads": 2, "min_frequency": 1},
    "train_image_classifier": IMAGES | {"data": "labelled", "batch_size": 8},
}
COLUMNS = (
    "script",
    "runs",
    "kills",
    "of them in a write",
    "before the first save",
    "resumed from steps",
    "from the save before",
    "batches compared",
    "mismatches",
)


@dataclass
class KillAndResumeOptions:
    """What to kill, and how often.

    Args:
        scripts: Which training scripts, separated by commas.
        kills: Processes to kill of each script, at least.
        steps: Steps of each run.
        out: Folder for the runs; it is replaced.
        seed: Seed of when and how; what the clock brings is not repeated.
    """

    scripts: str = ",".join(RUNS)
    kills: int = 20
    steps: int = 24
    out: Path = Path("runs/kill_and_resume")
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := set(self.scripts.split(",")) - RUNS.keys():
            raise ValueError(f"scripts has {', '.join(sorted(unknown))}, but must be of {', '.join(RUNS)}")


@dataclass
class Tally:
    """What happened to the runs of one script."""

    runs: int = 0
    kills: int = 0
    in_a_write: int = 0
    before_a_save: int = 0
    from_previous: int = 0
    batches: int = 0
    resumed_from: list[int] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)

    def row(self, script: str) -> str:
        steps = sorted(self.resumed_from)
        shown = f"{steps[0]}–{steps[-1]}, {len(set(steps))} different" if steps else "none"
        counts = (self.runs, self.kills, self.in_a_write, self.before_a_save, shown, self.from_previous)
        return f"| {' | '.join(map(str, (script, *counts, f'{self.batches:,}', len(self.mismatches))))} |"


def main() -> int:
    (options,) = parse_options(__doc__ or "", KillAndResumeOptions)
    shutil.rmtree(options.out, ignore_errors=True)
    data = options.out.resolve() / "data"
    write_data(data)
    torch.set_num_threads(1)
    warm_up()
    print("| " + " | ".join(COLUMNS) + " |\n| --- |" + " ---: |" * (len(COLUMNS) - 1), flush=True)
    mismatches = []
    for script in options.scripts.split(","):
        campaign = Campaign(script, data, options)
        while campaign.tally.kills < options.kills:
            campaign.break_and_compare()
        print(campaign.tally.row(script), flush=True)
        mismatches += campaign.tally.mismatches
    print("\n".join(mismatches))
    return 1 if mismatches else 0


class Campaign:
    """The unbroken run of a script, and any number of broken ones."""

    def __init__(self, script: str, data: Path, options: KillAndResumeOptions) -> None:
        self.module = load(script)
        self.folder = options.out / script
        self.tally = Tally()
        self.dice = random.Random(f"{options.seed} {script}")
        self.steps = options.steps
        self.damaged: bytes | None = None  # the last save that was
        run = EVERY_RUN | RUNS[script] | {"max_steps": options.steps, "data": data / str(RUNS[script]["data"])}
        if script == "train_image_classifier":
            run["dropout"] = 0.1
        self.options = arguments(run)
        self.unbroken = self.folder / "unbroken"
        started = time.monotonic()
        process = self._start(self.unbroken, ["--out", str(self.unbroken), *self.options], None)
        if process.wait() != 0:
            raise InputError(f"{script} does not come to its end: see {process.log}.out")
        self.seconds = time.monotonic() - started
        notes = process.notes()
        self.batches = [note for note in notes if note[0] == "batch"]
        self.moments = sum(note[0] == "moment" for note in notes)

    def break_and_compare(self) -> None:
        """A run that is killed, and resumed until it comes to its end, is compared with the unbroken one."""
        tally, dice = self.tally, self.dice
        tally.runs += 1
        folder = self.folder / f"broken {tally.runs}"
        arguments, step = ["--out", str(folder), *self.options], 0
        is_killed = True
        while is_killed:
            left = 1 - step / self.steps
            is_to_die = arguments[0] == "--out" or dice.random() < 0.6
            by_the_clock = dice.random() < 0.5
            moment = dice.randint(1, max(2, round(left * self.moments))) if is_to_die and not by_the_clock else None
            process = self._start(folder, arguments, moment)
            if is_to_die and by_the_clock:
                time.sleep(dice.uniform(0, left * self.seconds))
                process.kill()
            code = process.wait()
            self._compare_batches(process)
            is_killed = code == -signal.SIGKILL
            if is_killed:
                tally.kills += 1
                tally.in_a_write += moment is not None or any(folder.glob(".*.partial"))
                arguments, step = self._how_to_go_on(folder)
            elif code != 0:
                tally.mismatches.append(f"{folder} ended with exit code {code}: see {process.log}.out")
                return
        tally.mismatches += [f"{folder}: {what}" for what in differences(folder, self.unbroken)]

    def _how_to_go_on(self, folder: Path) -> tuple[list[str], int]:
        """The command line after a kill, and the step that it goes on from.

        Now and then the last save is damaged first, and must be refused.
        """
        tally = self.tally
        last, previous = folder / "resume.safetensors", folder / "resume.previous.safetensors"
        if not last.exists() and not previous.exists():
            tally.before_a_save += 1
            return ["--out", str(folder), *self.options, "--overwrite"], 0
        arguments = ["--config", str(folder / "config.yaml"), "--resume"]
        if last.exists() and self.damaged == last.read_bytes():  # killed again before it went back
            arguments[-1] = "--resume_previous"
            return arguments, saved_step(previous)
        if last.exists() and previous.exists() and self.dice.random() < 0.25:
            self.damaged = damage(last, self.dice)
            refused = self._start(folder, arguments, None)
            said = f"{last} is "
            if refused.wait() != 2 or said not in refused.output() or "--resume_previous" not in refused.output():
                tally.mismatches.append(f"{folder}: a damaged save is not refused: see {refused.log}.out")
            arguments[-1] = "--resume_previous"
            tally.from_previous += 1
            last = previous
        tally.resumed_from.append(saved_step(last if last.exists() else previous))
        return arguments, tally.resumed_from[-1]

    def _compare_batches(self, process: Process) -> None:
        found = [note for note in process.notes() if note[0] == "batch"]
        self.tally.batches += len(found)
        start = self.batches.index(found[0]) if found and found[0] in self.batches else 0
        if found != self.batches[start : start + len(found)]:
            self.tally.mismatches.append(f"{process.log} has other batches than the unbroken run")

    def _start(self, folder: Path, arguments: list[str], moment: int | None) -> Process:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        log = self.folder / "logs" / f"{folder.name} {len(list((self.folder / 'logs').glob('*.out')))}"
        return Process(self.module, arguments, folder, log, moment, self.dice.random())


def saved_step(save: Path) -> int:
    """The step of a save."""
    with safe_open(save, framework="pt") as stored:
        return int(json.loads(stored.metadata()["progress"])["step"])


def damage(file: Path, dice: random.Random) -> bytes:
    """Cut the file short, or turn one of its bits. Returns what it is now."""
    content = bytearray(file.read_bytes())
    place = dice.randrange(len(content))
    if dice.random() < 0.5:
        del content[place:]
    else:
        content[place] ^= 1 << dice.randrange(8)
    file.write_bytes(content)
    return bytes(content)


def warm_up() -> None:
    """Import what scripts import late, so that forks need not."""
    import matplotlib.figure  # noqa: F401

    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    parameter.grad = torch.zeros(2, 2)
    torch.optim.AdamW([parameter]).step()
    torch.optim.Muon([parameter]).step()


if __name__ == "__main__":
    run_script(main)
