"""How the C library hands out memory: what tensors free is kept for the next ones."""

import ctypes
import os
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_GROWN_BY = 2**26  # bytes, at a time

# Whoever has set one of these knows better.
_OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Have glibc's malloc keep what is freed, for the whole process, rather than give it back to the system.

    A training step on a CPU makes and frees the same large tensors over and over. Those of more than 32 MB, and most
    smaller ones, would each time be mapped anew, and the system clears each page as it is first touched, which can
    take a third of a step's time. The process then stays as large as it once was.

    Returns:
        Whether it does now: not without glibc (as on macOS and Windows), nor where MALLOC_... or GLIBC_TUNABLES in the
        environment say how it is to be.
    """
    if any(name in os.environ for name in (*_OWN_SETTINGS, "GLIBC_TUNABLES")) or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # there is none in musl
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _GROWN_BY))
    return all(mallopt(which, value) == 1 for which, value in settings)
