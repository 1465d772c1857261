"""The exception that means: what the user supplied is wrong, and here is what to do about it; and one for processes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_LINE_BREAKS = re.compile("\\s*[\t-\r\x1c-\x1e\x85\u2028\u2029]\\s*")
# What a terminal obeys, and what no UTF-8 output can have.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")


class InputError(ValueError):
    """Something the user supplied (a path, a file, an option) is wrong.

    The message is one line and says what was given, what was expected and what to do. Scripts print it
    as it is, without a traceback, and exit with code 2. What is quoted in it from a file is made printable.
    """

    def __init__(self, message: str) -> None:
        line = _LINE_BREAKS.sub(" ", message)
        super().__init__(_UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], line))


class OtherProcessError(RuntimeError):
    """This process ends because another one of its run has failed. Empty where that one says why."""


@contextmanager
def as_input_error(prefix: str = "") -> Iterator[None]:
    """A ValueError inside the `with` becomes an InputError: the library's check of a value that the user chose."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{prefix}{error}") from error
