"""Writing a file so that it is there whole or not at all."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` beside `path`, flush it to the disk, and only then put it in `path`'s place.

    Whatever stood at `path` stays as it was if anything fails before that: a kill, a full disk (OSError).
    """
    with completed(path, path.with_name(f".{path.name}.partial")) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def completed(path: Path, partial: Path) -> Iterator[BinaryIO]:
    """The file `partial` to write to; flushed to the disk and put in `path`'s place at the end, removed on an error."""
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write an object a line, letters of all scripts as they are; else as `write_atomically`."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
