"""The exception that means: what the user supplied is wrong, and here is what to do about it; and one for processes."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something the user supplied (a path, a file, an option) is wrong.

    The message is one line and says what was given, what was expected and what to do. Scripts print it
    as it is, without a traceback, and exit with code 2.
    """


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
