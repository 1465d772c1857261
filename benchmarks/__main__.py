"""Speed and memory beside what people use today, and beside the machine's limit: prints tables, and keeps them.

    python -m benchmarks                                         # every case, the rows that tell most
    python -m benchmarks --cases core,output --grid full         # all rows of two of them: some hours
    python -m benchmarks --quick                                 # seconds, to see that it runs

The cases:

    core        a training step of each cell beside torch.nn
    generation  drawing tokens beside a loop over torch.nn.LSTM
    beam        beam search in batches beside a loop over sentences
    output      the output layer's cross-entropy beside F.cross_entropy on whole logits
    scaling     time and memory as T, B, H, V and the corpus grow
    compile     torch.compile of each architecture

Ours and the peer are timed in turn, and medians count. Memory is what a call adds at its peak. The share of the limit
is the least time that the work's matrix products or memory traffic can take on this machine, at rates measured in the
same run, over the time it took; where all of it stays in caches faster than those measured, it can be above 100 %.
The process keeps freed memory as training does (`zoo.training.keep_freed_memory`), for ours and the peers alike. Leave
the machine alone meanwhile.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import beam, compiling, core_training, generation, output_layer, scaling
from benchmarks.machine import Limits, describe
from benchmarks.session import Session
from zoo.command_line import parse_options, run_script
from zoo.device import Precision, choose_device, multiplies_in_bfloat16
from zoo.training import keep_freed_memory

CASES = {
    "core": core_training.measure,
    "generation": generation.measure,
    "beam": beam.measure,
    "output": output_layer.measure,
    "scaling": scaling.measure,
    "compile": compiling.measure,
}


@dataclass
class BenchmarkOptions:
    """What to measure.

    Args:
        cases: Which cases, separated by commas.
        grid: How many rows a table has.
        quick: Next to nothing of everything, whatever the grid.
        out: Folder for the tables.
        repeats: Timings of each; the median counts.
        device: auto, cpu, cuda, ...
        seed: Seed of weights and inputs.
    """

    cases: str = ",".join(CASES)
    grid: Literal["summary", "full"] = "summary"
    quick: bool = False
    out: Path = Path("runs/benchmarks")
    repeats: int = 7
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not set(self.cases.split(",")) <= set(CASES):
            raise ValueError(f"cases is {self.cases}, but must be of {', '.join(CASES)}, separated by commas")
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}, but must be at least 1")


def main() -> int:
    (options,) = parse_options(__doc__ or "", BenchmarkOptions)
    session = start(options, sys.argv[1:])
    print("\n".join(session.about))
    for case in options.cases.split(","):
        CASES[case](session)
    return 0


def start(options: BenchmarkOptions, arguments: list[str]) -> Session:
    """Measure the machine's limits, and make the folder."""
    device = choose_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if multiplies_in_bfloat16(device) else ("float32",)
    limits = Limits(device, options.repeats, 128, 2**16) if options.quick else Limits(device, options.repeats)
    products = ", ".join(f"{limits.product_rate(name) / 1e9:,.0f} GFLOP/s in {name}" for name in precisions)
    about = (
        f"{describe(device)}; python -m benchmarks {shlex.join(arguments)}; seed {options.seed}",
        f"large product {products}; memory {limits.memory_rate() / 1e9:,.1f} GB/s; medians of {options.repeats}",
    )
    options.out.mkdir(parents=True, exist_ok=True)
    grid = "quick" if options.quick else options.grid
    return Session(device, precisions, grid, options.repeats, options.seed, options.out, about, limits)


if __name__ == "__main__":
    run_script(main)
