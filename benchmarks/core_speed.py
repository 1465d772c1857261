"""Training speed of each cell's core against the LSTM's: forward and backward, timed in turn, medians.

    python benchmarks/core_speed.py                        # hidden 512, windows of 256, batch 32
    python benchmarks/core_speed.py --hidden_size 256 --precision float32

Beside each time stands what part of it the products alone would take at the rate of this machine's large matrix
product, measured in the same run: what is left is pointwise work and memory traffic.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from zoo.command_line import parse_options, run_script
from zoo.core import CELLS, RecurrentCore
from zoo.device import choose_device, choose_precision


@dataclass
class CoreSpeedOptions:
    """What to time.

    Args:
        hidden_size: Width of the input and of the one layer.
        window: Steps.
        batch_size: Rows.
        precision: auto, float32 or bfloat16.
        device: auto, cpu, cuda, ...
        repeats: Timings of each cell; the median counts.
    """

    hidden_size: int = 512
    window: int = 256
    batch_size: int = 32
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    repeats: int = 9


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start


def main() -> int:
    (options,) = parse_options(__doc__ or "", CoreSpeedOptions)
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    size, tokens = options.hidden_size, options.batch_size * options.window
    inputs = torch.randn(options.batch_size, options.window, size, device=device, requires_grad=True)
    grad = torch.randn(options.batch_size, options.window, size, device=device, dtype=dtype)
    cores = {name: RecurrentCore(name, size, size).to(device) for name in CELLS}
    left, right = (torch.randn(4096, 4096, device=device, dtype=dtype) for _ in range(2))

    def step(core: RecurrentCore) -> None:
        core.zero_grad(set_to_none=True)
        inputs.grad = None
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs, _ = core(inputs)
        outputs.backward(grad)

    work: dict[str, Callable[[], object]] = {name: partial(step, core) for name, core in cores.items()}
    work["product"] = lambda: left @ right
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(options.repeats + 2):  # the first two warm up
        for name, function in work.items():
            elapsed = seconds(function, device)
            if repeat >= 2:
                times[name].append(elapsed)
    median = {name: statistics.median(values) for name, values in times.items()}
    rate = 2 * 4096**3 / median.pop("product")
    print(f"{device.type}, {precision}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"B {options.batch_size}, T {options.window}, H {size}; large product {rate / 1e9:,.0f} GFLOP/s\n")
    print("| cell | tokens/s | times lstm | products' share of the time |\n| --- | ---: | ---: | ---: |")
    for name, value in median.items():
        matrices = sum(p.numel() for p in cores[name].parameters() if p.ndim == 2)
        products = 6 * matrices * tokens / rate  # forward, gradient of the inputs, gradient of the weights
        print(f"| {name} | {tokens / value:,.0f} | {median['lstm'] / value:.2f} | {products / value:.0%} |")
    return 0


if __name__ == "__main__":
    run_script(main)
