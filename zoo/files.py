"""Writing a file so that it is there whole or not at all."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` beside `path`, flush it to the disk, and only then put it in `path`'s place.

    Whatever stood at `path` stays as it was if anything fails before that: a kill, a full disk (OSError).
    """
    temporary = path.with_name(f".{path.name}.partial")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write an object a line, letters of all scripts as they are; else as `write_atomically`."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
