"""Timing is in turn, and the median counts."""

import itertools

import pytest
import torch

from benchmarks import timing

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only work moves on."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def work_taking(several):
        several = itertools.chain(several, itertools.repeat(several[-1]))

        def work():
            now[0] += next(several)

        return work

    return work_taking


def test_the_median_of_the_rounds_after_the_first(clock):
    ways = {"a": clock([100, 1, 9, 2, 8, 3]), "b": clock([0, 5, 5, 7, 1, 6])}
    assert timing.medians(ways, 5, CPU) == {"a": 3, "b": 5}


def test_ways_take_turns():
    order = []
    timing.medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, CPU)
    assert order == ["a", "b"] * 4


def test_what_is_short_is_called_several_times_and_counts_once(clock):
    calls, work = [], clock([0.25])

    def short():
        calls.append("short")
        work()

    times = timing.medians({"short": short, "long": clock([3.0])}, 2, CPU, shortest=1.0)
    assert times == {"short": 0.25, "long": 3.0}
    assert len(calls) == 1 + 1 + 2 * 4  # warming up, counting, two rounds
