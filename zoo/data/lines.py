"""The lines of UTF-8 text, in bounded memory, and one message for each thing that can be wrong with its bytes."""

import codecs
import gzip
import itertools
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeVar

from zoo.errors import InputError

Item = TypeVar("Item")

MAX_CHARACTERS = 1_000_000
"""A longer line (or CSV row) is refused, so that a file cannot fill the memory."""


MAX_BLANK_LINES = 100_000
"""More in a row are refused: a gzipped file of 10 MB has 10,000,000,000 of them."""


def read_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """The lines of UTF-8 text: (number from 1, line without its end and without a byte order mark).

    A line ends in `\\n` or `\\r\\n`. No more than one line is in memory, and of one that is too long only a part.

    Args:
        file: open for reading bytes: a file, `gzip.open(...)`, or `sys.stdin.buffer`.
        name: what messages call it.

    Raises:
        InputError: a line has more than MAX_CHARACTERS, NUL bytes, or is not UTF-8; there are more than
            MAX_BLANK_LINES in a row without anything in them; or the file cannot be read.
    """
    blank = 0
    most = 4 * MAX_CHARACTERS + 6  # a byte more than a line may take, with "\r\n" and a byte order mark
    for number in itertools.count(1):
        with reading(name, number):
            content = file.readline(most)
        if not content:
            return
        place = f"{name}, line {number:,}"
        blank = 0 if content.strip() else blank + 1
        if blank > MAX_BLANK_LINES:
            raise InputError(f"{place}: the {blank:,} lines up to there are blank: expected text")
        if number == 1 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{name} is UTF-16, expected UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")
        check_no_nul(content, place)
        if len(content) == most:
            raise too_long(place)
        try:
            line = content.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(place, error) from error
        line = line.removesuffix("\n").removesuffix("\r")
        if number == 1:
            line = line.removeprefix("\ufeff")
        if len(line) > MAX_CHARACTERS:
            raise too_long(place)
        yield number, line


def in_chunks(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """The items, `size` at a time; those before a faulty one come first, and then its InputError."""
    chunk: list[Item] = []
    try:
        for item in items:
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except InputError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


@contextmanager
def reading(name: str, line: int) -> Iterator[None]:
    """What goes wrong while the file called `name` is read inside the `with`, at about `line`, as an InputError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = "it ends too early" if isinstance(error, EOFError) else " ".join(str(error).split())
        raise InputError(
            f"{name}, line {line:,}: damaged, or no gzip file ({reason}): get or compress the file again"
        ) from error
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror or error}): expected a readable file") from error


def check_no_nul(content: bytes, place: str) -> None:
    """Refuse bytes that are no text."""
    if 0 in content:
        raise InputError(f"{place} has a NUL byte: expected UTF-8 text, not a binary file")


def not_utf8(place: str, error: UnicodeDecodeError) -> InputError:
    """The error for bytes that are not UTF-8."""
    return InputError(
        f"{place} is not UTF-8 (byte 0x{error.object[error.start]:02x}): convert the file, for instance with "
        "`iconv -f LATIN1 -t UTF-8`"
    )


def too_long(place: str, advice: str = "shorten it") -> InputError:
    """The error for what has more than MAX_CHARACTERS."""
    return InputError(f"{place} has more than {MAX_CHARACTERS:,} characters, expected at most that many: {advice}")
