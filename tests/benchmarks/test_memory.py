"""Peak memory is what a call adds, no more and no less."""

import gc
import sys

import pytest
import torch

from benchmarks.memory import peak_memory, peak_of_command
from zoo.errors import InputError

MEBIBYTE = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@linux
def test_what_is_held_at_once_counts_and_what_was_there_does_not():
    before = torch.ones(32 * MEBIBYTE // 4)

    def work():
        for _ in range(3):  # one after the other
            (before + 1).sum()

    assert 31.5 < peak_memory(work, torch.device("cpu")) / MEBIBYTE < 40


@linux
def test_memory_that_was_freed_before_does_not_hide_any():
    def work():
        return [torch.ones(MEBIBYTE // 64) for _ in range(32 * 16)]  # small enough to come from the heap

    first, second = (peak_memory(work, torch.device("cpu")) / MEBIBYTE for _ in range(2))
    assert 26 < first < 40 and 26 < second < 40  # less than 32: see the docstring on parts of pages


@linux
def test_garbage_that_is_collected_meanwhile_does_not_hide_any():
    def work():
        gc.collect()
        return torch.ones(32 * MEBIBYTE // 4)

    gc.disable()
    try:
        cycle = [torch.ones(32 * MEBIBYTE // 4)]
        cycle.append(cycle)
        del cycle
        assert 31 < peak_memory(work, torch.device("cpu")) / MEBIBYTE < 40
    finally:
        gc.enable()


def test_the_peak_of_a_command_is_its_own(tmp_path):
    held = torch.ones(200 * MEBIBYTE // 4)  # would count as the command's if that were started from here
    command = [sys.executable, "-c", f"print(len(b'x' * {100 * MEBIBYTE}))"]
    assert 100 <= peak_of_command(command, tmp_path / "log") / MEBIBYTE < 150
    assert (tmp_path / "log").read_text() == f"{100 * MEBIBYTE}\n"
    assert len(held)


def test_a_command_that_fails_names_its_log(tmp_path):
    with pytest.raises(InputError, match=r"ended with exit code 3: see .*log"):
        peak_of_command([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")
