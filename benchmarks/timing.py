"""Timing in turn: in each round every way to do the work once, so that what else goes on meets all of them alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start


def medians(
    ways: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, shortest: float = 0.0
) -> dict[str, float]:
    """Median seconds of each over `repeats` rounds, after one that warms up.

    With `shortest` a timing is of as many calls in a row as take about so many seconds: a clock and a thread's waking
    up are too coarse for less than some milliseconds.
    """
    for work in ways.values():
        seconds(work, device)
    calls = dict.fromkeys(ways, 1)
    if shortest:
        calls = {way: math.ceil(shortest / seconds(work, device)) for way, work in ways.items()}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, work in ways.items():
            times[way].append(seconds(_repeated(work, calls[way]), device) / calls[way])
    return {way: statistics.median(several) for way, several in times.items()}


def _repeated(work: Callable[[], object], count: int) -> Callable[[], object]:
    def works() -> None:
        for _ in range(count):
            work()

    return works
