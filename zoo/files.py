"""Writing a file so that it is there whole or not at all."""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

PARTIAL = ".{}.partial"  # what a file is called until it is whole; a kill leaves it behind


def write_atomically(path: Path, content: bytes | str, keep_as: Path | None = None) -> None:
    """Write `content` beside `path`, flush it to the disk, and only then put it in `path`'s place.

    Whatever stood at `path` stays as it was if anything fails before that: a kill, a full disk (OSError, which names
    the file). With `keep_as` it is kept under that name, and for a moment under that name alone.
    """
    partial = path.with_name(PARTIAL.format(path.name))
    with completed(path, partial, keep_as) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def completed(path: Path, partial: Path, keep_as: Path | None = None) -> Iterator[BinaryIO]:
    """The file `partial` to write to; flushed to the disk and put in `path`'s place at the end, removed on an error."""
    with _naming(path):
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if keep_as is not None and path.exists():
                path.replace(keep_as)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)


def append(path: Path, text: str) -> None:
    """Add `text` to the file's end and flush it to the disk. Part of it may be there after an OSError or a kill."""
    with _naming(path), path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write an object a line, letters of all scripts as they are; else as `write_atomically`."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # Half of a surrogate pair, which UTF-8 cannot write, is what JSON escapes so too.
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def _flush_folder(folder: Path) -> None:
    """A new name is on the disk only once its folder is."""
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems flush files only
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A failed write does not say by itself of which file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
