"""Objects of JSON lines, one at a time, and of a JSON array, which is read whole."""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from zoo.data.lines import check_no_nul, not_utf8, read_lines, reading
from zoo.errors import InputError

MAX_ARRAY_BYTES = 2**28
"""A larger array is refused: JSON lines, which need not be in memory at once, say the same."""

LONGEST_PIECE = 2**20

MAX_ARRAY_VALUES = 10**7
"""An array of more values is refused, each of which takes a hundred bytes in memory, and two in the file."""


def json_lines(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of a file with an object a line.

    Raises:
        InputError: a line is malformed, no object or too long (see `read_lines`); or there is nothing but blanks.
    """
    empty = True
    for number, line in read_lines(file, name):
        if not line.strip():
            continue
        empty = False
        place = f"{name}, line {number:,}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise _malformed(f"{place}, column {error.colno:,}", error.msg) from error
        except (ValueError, RecursionError) as error:  # an integer of thousands of digits, brackets a thousand deep
            raise _malformed(place, str(error)) from error
        yield place, _as_object(value, place, _has_surrogates(line))
    if empty:
        raise InputError(f"{name} is empty: expected an object a line")


def refuse_null_rows(file: BinaryIO, name: str) -> None:
    """Raise InputError if a row of JSON lines is null: at the start of one of its blocks, that ends PyArrow's reader
    and the whole process with it (PyArrow 26, `pyarrow.json.read_json` of a file with nothing but `null`)."""
    last: bytes | None = None  # byte that is no blank
    begins = True  # whether all since the line's start are blanks
    with reading(name, 1):
        while piece := file.readline(LONGEST_PIECE):
            stripped = (piece.removeprefix(codecs.BOM_UTF8) if last is None else piece).strip()
            if begins and last in (None, b"}") and stripped.startswith(b"null"):
                raise InputError(f"{name} has null for a row: expected objects")
            last = stripped[-1:] or last
            begins = piece.endswith(b"\n") or (begins and not stripped)


def is_json_array(file: BinaryIO, name: str) -> bool:
    """Whether the first character that is no blank is a bracket; `file` is at its start before and after."""
    with reading(name, 1):
        start = file.read(4096)
        file.seek(0)
    return start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def json_array(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of a file that is one array of objects.

    Raises:
        InputError: the array is malformed or above MAX_ARRAY_BYTES, or has something else than objects.
    """
    with reading(name, 1):
        content = file.read(MAX_ARRAY_BYTES + 1)
    check_no_nul(content, name)
    if len(content) > MAX_ARRAY_BYTES:
        raise InputError(
            f"{name} is a JSON array of more than {MAX_ARRAY_BYTES:,} bytes: expected at most that many, or JSON "
            "lines, an object a line, in a file ending in .jsonl"
        )
    check_json_values(content, name)
    try:
        text = content.decode("utf-8-sig")
        values = json.loads(text)
    except UnicodeDecodeError as error:
        raise not_utf8(name, error) from error
    except json.JSONDecodeError as error:
        raise _malformed(f"{name}, line {error.lineno:,}, column {error.colno:,}", error.msg) from error
    except (ValueError, RecursionError) as error:
        raise _malformed(name, str(error)) from error
    surrogates = _has_surrogates(text)
    for number, value in enumerate(values, start=1):
        place = f"{name}, object {number:,}"
        yield place, _as_object(value, place, surrogates)


def check_json_values(content: bytes, name: str) -> None:
    """Raise InputError where the values in some JSON might fill the memory."""
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_ARRAY_VALUES:
        raise InputError(
            f"{name} is JSON of more than {MAX_ARRAY_VALUES:,} values: expected at most that many, or JSON lines, an "
            "object a line, in a file ending in .jsonl"
        )


def _has_surrogates(text: str) -> bool:
    """Whether a part of a character above U+FFFF may be escaped in it."""
    return "\\ud" in text.lower()


def _as_object(value: Any, place: str, surrogates: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(
            f'{place} is no object: expected one a line, as in {{"text": "...", "label": "..."}}, or, in a '
            "file ending in .json, one array of them"
        )
    if surrogates:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{place} has half a character (a lone surrogate such as \\ud83d): correct it") from error
    return value


def _malformed(place: str, reason: str) -> InputError:
    return InputError(f"{place}: malformed JSON ({reason}): expected an object a line, or one array of objects")
