"""Peak memory is what a call adds, no more and no less."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.memory import peak_of_command
from zoo.errors import InputError

REPOSITORY = Path(__file__).parents[2]
MEBIBYTE = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

# In a process of its own: where one that has run a thousand tests has holes, and what it keeps of what it frees, is up
# to those tests, by 2 MiB and by 32.
PEAKS = """
import gc, json, torch
from benchmarks.memory import peak_memory

MEBIBYTE = 2**20
cpu = torch.device("cpu")
before = torch.ones(32 * MEBIBYTE // 4)

def one_after_the_other():
    for _ in range(3):
        (before + 1).sum()

def small_enough_to_come_from_the_heap():
    return [torch.ones(MEBIBYTE // 64) for _ in range(32 * 16)]

def collect_and_take():
    gc.collect()
    return torch.ones(32 * MEBIBYTE // 4)

works = [one_after_the_other, small_enough_to_come_from_the_heap, small_enough_to_come_from_the_heap]
peaks = [peak_memory(work, cpu) for work in works]
gc.disable()
cycle = [torch.ones(32 * MEBIBYTE // 4)]
cycle.append(cycle)
del cycle
peaks.append(peak_memory(collect_and_take, cpu))
print(json.dumps(peaks))
"""


@pytest.fixture(scope="module")
def peaks():
    """In MiB."""
    done = subprocess.run([sys.executable, "-c", PEAKS], stdout=subprocess.PIPE, cwd=REPOSITORY, check=True)
    return [peak / MEBIBYTE for peak in json.loads(done.stdout)]


@linux
def test_what_is_held_at_once_counts_and_what_was_there_does_not(peaks):
    assert 31.5 < peaks[0] < 40


@linux
def test_memory_that_was_freed_before_does_not_hide_any(peaks):
    assert 31.5 < peaks[1] < 40 and 31.5 < peaks[2] < 40


@linux
def test_garbage_that_is_collected_meanwhile_does_not_hide_any(peaks):
    assert 31.5 < peaks[3] < 40


def test_the_peak_of_a_command_is_its_own(tmp_path):
    held = torch.ones(200 * MEBIBYTE // 4)  # would count as the command's if that were started from here
    command = [sys.executable, "-c", f"print(len(b'x' * {100 * MEBIBYTE}))"]
    assert 100 <= peak_of_command(command, tmp_path / "log") / MEBIBYTE < 150
    assert (tmp_path / "log").read_text() == f"{100 * MEBIBYTE}\n"
    assert len(held)


def test_a_command_that_fails_names_its_log(tmp_path):
    with pytest.raises(InputError, match=r"ended with exit code 3: see .*log"):
        peak_of_command([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")
