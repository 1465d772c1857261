"""Where the time of a training script's steps goes, by kind of operation, and how fast its products are.

    python -m benchmarks.profile_training --script train_text_generator --options "--data input.txt --batch_size 64"

The script runs as it is, in this process, with the options given, until enough steps have been profiled. Products are
set beside the rate of one large product in the precision of the run, measured just after: their share of that is how
near they are to the machine's limit, and their share of the step bounds what everything else can still bring.
"""

import contextlib
import io
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import Limits, describe
from benchmarks.tables import markdown_head, markdown_row
from benchmarks.training_runs import load
from zoo.command_line import parse_options, run_script
from zoo.device import Precision
from zoo.errors import InputError
from zoo.training import loop

# An operation belongs to the first kind that has a part of its name.
KINDS = {
    "fused recurrent layers": ("mkldnn_rnn", "_cudnn_rnn"),
    "products and convolutions": ("mm", "convolution", "scaled_dot_product"),
    "embeddings": ("embedding", "index_select", "index_put", "index_add"),
    "optimizer": ("_fused_adam",),
    "norms, softmax, losses": ("norm", "softmax", "nll_loss", "cross_entropy"),
    "copies and conversions": ("copy_", "cat", "gather", "fill_", "flip", "zero_", "stack", "clone"),
    "pointwise and the rest": ("",),
}
PRODUCTS = "products and convolutions"
OUTSIDE = "outside of operations"


@dataclass
class ProfileOptions:
    """What to profile.

    Args:
        script: A training script's name, such as train_translator.
        options: Its options, as on a command line, but for --out.
        warm_up: Steps before the profile.
        steps: Steps in the profile.
    """

    script: str = "train_text_generator"
    options: str = ""
    warm_up: int = 20
    steps: int = 30

    def __post_init__(self) -> None:
        if self.warm_up < 1 or self.steps < 1:
            raise ValueError(f"warm_up is {self.warm_up} and steps {self.steps}, but both must be at least 1")


class _CompleteError(Exception):
    """The profile is complete."""


class _Profiled:
    """Stands in for the training loop's step: some steps as they are, then some in a profile, then the end."""

    def __init__(self, options: ProfileOptions) -> None:
        self.options = options
        self.step = loop._Loop._train_on
        self.profile = profile(activities=[ProfilerActivity.CPU], with_flops=True)
        self.count = 0
        self.start = self.seconds = 0.0
        self.precision: Precision = "float32"

    def __call__(self, training: Any, batch: Any) -> None:
        if self.count == self.options.warm_up:
            self.precision = training.progress.precision
            self.profile.start()
            self.start = time.perf_counter()
        self.step(training, batch)
        self.count += 1
        if self.count == self.options.warm_up + self.options.steps:
            self.seconds = time.perf_counter() - self.start
            self.profile.stop()
            raise _CompleteError


def main() -> int:
    (options,) = parse_options(__doc__ or "", ProfileOptions)
    module = load(options.script)
    profiled, printed = _Profiled(options), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        # No evaluation or save falls among the steps, unless it is asked for.
        long = ["--max_minutes", "600", "--evaluations", "1", "--save_minutes", "600"]
        arguments = [options.script, *long, *shlex.split(options.options), "--out", f"{folder}/run"]
        with (
            patch.object(sys, "argv", arguments),
            # A function, so that it is bound as the method is.
            patch.object(loop._Loop, "_train_on", lambda training, batch: profiled(training, batch)),
            contextlib.redirect_stdout(printed),
            contextlib.suppress(_CompleteError),
        ):
            module.main()
            raise InputError(f"the run ended before {options.warm_up + options.steps} steps: {printed.getvalue()}")
    device = torch.device("cpu")
    print(f"{describe(device)}; {options.script} {options.options}; {profiled.precision}")
    print("\n".join(report(profiled, Limits(device, 5).product_rate(profiled.precision))))
    return 0


def report(profiled: _Profiled, product_rate: float) -> list[str]:
    """The table: a kind of operation a row, the slowest first."""
    times: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    flops = 0
    for event in profiled.profile.key_averages():
        kind = next(kind for kind, parts in KINDS.items() if any(part in event.key for part in parts))
        times[kind] += event.self_cpu_time_total / 1e6
        flops += event.flops if kind == PRODUCTS else 0
    times[OUTSIDE] = profiled.seconds - sum(times.values())
    steps = profiled.options.steps
    lines = [f"{1000 * profiled.seconds / steps:,.1f} ms a step, {steps} steps", ""]
    lines.append(markdown_head(("kind", "ms a step", "share")))
    for kind, time_taken in sorted(times.items(), key=lambda item: -item[1]):
        lines.append(markdown_row((kind, f"{1000 * time_taken / steps:,.1f}", f"{time_taken / profiled.seconds:.0%}")))
    rate = flops / times[PRODUCTS] if times[PRODUCTS] else 0.0
    lines += ["", f"products: {rate / 1e9:,.0f} GFLOP/s, {rate / product_rate:.0%} of a large product's rate"]
    return lines


if __name__ == "__main__":
    run_script(main)
