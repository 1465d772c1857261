"""The texts that a script is to work on: its arguments, the lines of a file, or those of standard input."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from zoo.data.lines import read_lines
from zoo.data.text_pieces import valid_unicode
from zoo.errors import InputError


class GivenText(NamedTuple):
    """A text, and what an error calls it ("text 2", "reviews.txt, line 3")."""

    place: str
    text: str


def given_texts(texts: Sequence[str], file: Path | None) -> Iterator[GivenText]:
    """The texts, if there are any; else the lines of the file; else those of standard input.

    Raises:
        InputError: at once, if both are given or the file cannot be opened; later, what `read_lines` finds wrong.
    """
    if texts and file is not None:
        raise InputError("texts and --file were both given; the texts can come from one of them only")
    if texts:
        return (GivenText(f"text {number}", valid_unicode(text)) for number, text in enumerate(texts, start=1))
    if file is None:
        if sys.stdin is None:
            raise InputError("standard input is closed: give texts, or a file with --file")
        if sys.stdin.isatty():
            print("a text a line; Ctrl-D ends", file=sys.stderr)
        return _lines(sys.stdin.buffer, "standard input")
    try:
        return _lines(file.open("rb"), str(file))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror})") from None


def are_typed(texts: Sequence[str], file: Path | None) -> bool:
    """Whether someone types the texts and waits for an answer to each. (Standard input may be closed if not.)"""
    return not texts and file is None and sys.stdin.isatty()


def _lines(file: BinaryIO, name: str) -> Iterator[GivenText]:
    return (GivenText(f"{name}, line {number:,}", line) for number, line in read_lines(file, name))
