"""Training speed of one process against several on one machine, at the same batch of all together.

    python -m benchmarks.process_scaling                         # 1 against 2 processes on the CPU, half the cores each
    python -m benchmarks.process_scaling --script train_translator --device cuda --processes 4

Each run is a real one by torchrun, on the built-in data; turns are taken, and the median of each counts. On CPUs the
cores are divided among the processes, so that one process has as many as two.
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from zoo.command_line import parse_options, run_script
from zoo.errors import InputError

SCRIPTS = Path(__file__).parents[1] / "scripts"


@dataclass
class ScalingOptions:
    """What to time.

    Args:
        script: The training script.
        processes: How many there are against one.
        batch_size: Rows of all processes together; the script's own if left out.
        threads: Of all processes together, on a CPU; the cores if left out.
        max_steps: Steps of a run.
        repeats: Runs of each; the median counts.
        device: cpu or cuda.
        options: Further options of the script, in one text, such as "--hidden_size 512 --data input.txt".
    """

    script: Literal[
        "train_text_generator",
        "train_text_classifier",
        "train_translator",
        "train_image_captioner",
        "train_image_classifier",
    ] = "train_text_generator"
    processes: int = 2
    batch_size: int | None = None
    threads: int | None = None
    max_steps: int = 200
    repeats: int = 3
    device: Literal["cpu", "cuda"] = "cpu"
    options: str = ""

    def __post_init__(self) -> None:
        for name, least in (("processes", 2), ("max_steps", 1), ("repeats", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {least}")


def speed(options: ScalingOptions, processes: int, threads: int, out: Path) -> float:
    """Tokens (images, of the image classifier) a second."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += [str(SCRIPTS / f"{options.script}.py"), "--out", str(out), "--overwrite", "--device", options.device]
    command += ["--max_steps", str(options.max_steps), "--evaluations", "1", *options.options.split()]
    command += [] if options.batch_size is None else ["--batch_size", str(options.batch_size)]
    env = os.environ | {"OMP_NUM_THREADS": str(max(1, threads // processes))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        raise InputError(said[0].removeprefix("error: ") if said else f"{' '.join(command)} failed:\n{done.stderr}")
    figures = json.loads((out / "metrics.json").read_text("utf-8"))
    assert figures["processes"] == processes
    return float(figures.get("tokens_per_second") or figures["images_per_second"])


def main() -> int:
    (options,) = parse_options(__doc__ or "", ScalingOptions)
    threads = options.threads or len(os.sched_getaffinity(0))
    counts = (1, options.processes)
    speeds: dict[int, list[float]] = {count: [] for count in counts}
    with TemporaryDirectory() as folder:
        for _ in range(options.repeats):
            for count in counts:
                speeds[count].append(speed(options, count, threads, Path(folder) / "run"))
    unit = "images/s" if options.script == "train_image_classifier" else "tokens/s"
    print(f"{options.script}, {options.device}, {threads} threads in all, {options.max_steps} steps, ", end="")
    print(f"median of {options.repeats}\n\n| processes | {unit} | times one |\n| ---: | ---: | ---: |")
    median = {count: statistics.median(found) for count, found in speeds.items()}
    for count, value in median.items():
        print(f"| {count} | {value:,.0f} | {value / median[1]:.2f} |")
    return 0


if __name__ == "__main__":
    run_script(main)
