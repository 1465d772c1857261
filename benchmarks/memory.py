"""How much memory a piece of work takes at its peak, beside what was there before it."""

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from zoo.errors import InputError

# Run by a process that has little memory itself: what a process held when it started another counts as that one's.
PEAK_OF_COMMAND = """
import json, os, resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(json.dumps([code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def peak_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that one call adds at its peak to what is held before it; None where the system does not tell.

    On a CPU these are resident bytes, so that what kernels take outside of PyTorch's allocator counts too: Linux keeps
    the highest mark, to a quarter of a MiB or so, and it can be set back. Garbage is collected first, and freed memory
    that the C library kept is handed back as far as it fills pages. In a process that has done much, parts of two pages
    stay for each piece freed, and what later falls there is not counted. On an accelerator these are bytes of tensors.
    Call it when the work has been done once: what is made once and for all is not counted.
    """
    if device.type != "cpu":
        torch.accelerator.synchronize()
        before = torch.accelerator.memory_allocated()
        torch.accelerator.reset_peak_memory_stats()
        work()
        torch.accelerator.synchronize()
        return torch.accelerator.max_memory_allocated() - before
    if sys.platform != "linux":
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    work()
    return _resident("VmHWM") - before


def _resident(which: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{which}:")).split()[1])


def peak_of_command(command: Sequence[str], log: Path) -> int:
    """Run a command to its end and return the most bytes that it, or a process it started, had resident.

    Raises:
        InputError: the command failed; what it printed is in `log`.
    """
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-c", PEAK_OF_COMMAND, *command], stdout=subprocess.PIPE, stderr=file, check=True
        )
    code, peak = json.loads(done.stdout)
    if code:
        raise InputError(f"{' '.join(command)} ended with exit code {code}: see {log}")
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
