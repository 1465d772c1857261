"""Reading gzipped files whose content may be made to fill the memory."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from zoo.data.lines import reading
from zoo.errors import InputError

MAX_RATIO = 100
"""How many times as large as the file what is in it may be. Text comes to 3 to 20 times, and zeros to 1,000."""

FREE_BYTES = 2**24
"""So much is read of any file."""


class Gunzipped(gzip.GzipFile):
    """A gzipped file, open for reading, whose lines end where it turns out to be a bomb.

    Args:
        file: the gzipped file, open for reading bytes.
        name: what messages call it.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(fileobj=file)
        self._packed, self._name = file, name

    def readline(self, size: int | None = -1) -> bytes:
        """As of any file. Raises InputError where there was more in it than in a file of texts."""
        line = super().readline(size)
        unpacked = self.tell()
        if unpacked > FREE_BYTES and unpacked > MAX_RATIO * self._packed.tell():
            raise InputError(
                f"{self._name} has more than {MAX_RATIO} times as many bytes in it as it has itself: expected a file "
                "of texts, not one that was made to fill the memory; if it is all right, unpack it with gunzip"
            )
        return line


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file, open for reading bytes: what is in it, if its name ends in .gz. Raises InputError if it cannot be."""
    with reading(str(path), 1):
        stored: BinaryIO = path.open("rb")
    with stored:
        gzipped = path.name.lower().endswith(".gz")
        # typeshed does not know that a GzipFile is a BinaryIO in all that matters.
        yield cast(BinaryIO, Gunzipped(stored, str(path))) if gzipped else stored
