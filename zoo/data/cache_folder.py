"""The folder for what was computed once, and tensors in files there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.files import completed


def default_cache() -> Path:
    """The user's cache folder: `$XDG_CACHE_HOME/sequence-zoo`, or `~/.cache/sequence-zoo`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sequence-zoo"


@contextmanager
def written(path: Path, what: str) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` once it is whole; folders are made. Several processes may do the same.

    Args:
        path: where it is to be.
        what: what is in it, such as "features".

    Raises:
        InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Its own name: another process may be computing the same.
        with completed(path, path.with_suffix(f".{uuid4().hex}.partial")) as file:
            yield file
    except OSError as error:
        raise InputError(
            f"{what} cannot be kept in {path.parent} ({error}): name another folder with --cache, or make room"
        ) from error


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
