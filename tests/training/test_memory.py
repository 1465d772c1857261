"""Memory that is kept for the next tensors: without page faults for each; and left alone where it must be."""

import os
import platform
import subprocess
import sys

import pytest

from zoo.training import keep_freed_memory, memory

# How many pages of memory the system had to hand out for ten large tensors, one after the other.
PROGRAM = """
import resource, sys, torch
from zoo.training import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def plain_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_what_is_freed_is_used_again():
    faults = {}
    for how in ("plain", "kept"):
        command = [sys.executable, "-c", PROGRAM, how]
        ran = subprocess.run(command, env=plain_environment(), capture_output=True, text=True, check=True)
        faults[how] = int(ran.stdout)
    assert faults["kept"] < 0.1 * faults["plain"]


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_who_has_set_it_knows_better(monkeypatch, name):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()


@pytest.mark.parametrize("change", ["platform", "library"])
def test_nothing_is_done_without_glibc(monkeypatch, change):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if change == "platform":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
