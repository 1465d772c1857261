"""The folder for what was computed once, and tensors in files there."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.files import completed

ABANDONED_SECONDS = 3600
PARTIAL = re.compile(r"(features|tokenizer|tokens)-[0-9a-f]{32}\.[0-9a-f]{32}\.partial")


def default_cache() -> Path:
    """The user's cache folder: `$XDG_CACHE_HOME/sequence-zoo`, or `~/.cache/sequence-zoo`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sequence-zoo"


@contextmanager
def written(path: Path, what: str) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` once it is whole; folders are made. Several processes may do the same.

    What runs that were killed left half written there, an hour ago or longer, is removed: it may be gigabytes.

    Args:
        path: where it is to be.
        what: what is in it, such as "features".

    Raises:
        InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        # Its own name: another process may be computing the same.
        with completed(path, path.with_suffix(f".{uuid4().hex}.partial")) as file:
            yield file
    except OSError as error:
        raise InputError(
            f"{what} cannot be kept in {path.parent} ({error}): name another folder with --cache, or make room"
        ) from error


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob("*.partial"):
        with suppress(OSError):  # another process may have removed it, or another user have left it
            if PARTIAL.fullmatch(path.name) and time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink()


def mapped(path: Path, dtype: torch.dtype) -> Tensor:
    """The values in a file, (N,): in memory only as far as they are used, and given up when memory is short.

    Raises:
        InputError: it cannot be mapped.
    """
    try:
        return torch.from_file(str(path), shared=False, size=path.stat().st_size // dtype.itemsize, dtype=dtype)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be mapped into memory ({reason}): remove it") from error
