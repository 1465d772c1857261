"""The table of several processes against one, from real runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "process_scaling.py"


def start(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(FILE), "--repeats", "1", "--max_steps", "2", *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_table() -> None:
    done = start("--options", "--hidden_size 8 --ngram_buckets 10 --markov_order 2", "--batch_size", "8")
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:4] for line in done.stdout.splitlines()[-2:]]
    assert [int(row[0]) for row in rows] == [1, 2]
    assert float(rows[0][2]) == 1
    speeds = [float(row[1].replace(",", "")) for row in rows]
    assert float(rows[1][2]) == pytest.approx(speeds[1] / speeds[0], abs=0.01)


@pytest.mark.slow
def test_what_a_run_says_is_wrong() -> None:
    done = start("--options", "--hidden_size -1")
    assert (done.returncode, done.stderr) == (2, "error: hidden_size is -1, but must be at least 1\n")
