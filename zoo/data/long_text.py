"""A text that need not fit into memory: read from its files anew whenever it is wanted, a block at a time."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from zoo.data.text_files import read_blocks
from zoo.data.text_pieces import text_pieces
from zoo.errors import InputError


@dataclass(frozen=True)
class FileText:
    """The characters from `start` to before `stop` of a text file; a slice of it is one of these, too.

    `status` is the file's size and time of change when they were counted.
    """

    path: Path
    start: int
    stop: int
    status: tuple[int, int]

    @classmethod
    def whole(cls, path: Path) -> "FileText | None":
        """All of a file, which is read once for it; None if it has nothing but blanks.

        Raises:
            InputError: it cannot be read, or is no text in UTF-8.
        """
        length, blank = 0, True
        status = _status(path)
        for block in read_blocks(path):
            length += len(block)
            blank = blank and not block.strip()
        return None if blank else cls(path, 0, length, status)

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> "FileText":
        start, stop, _ = part.indices(len(self))
        return replace(self, start=self.start + start, stop=self.start + max(start, stop))

    def blocks(self) -> Iterator[str]:
        """The characters, in order.

        Raises:
            InputError: the file is no longer what it was.
        """
        self._check_unchanged()
        begin = 0
        for block in read_blocks(self.path):
            if part := block[max(0, self.start - begin) : max(0, self.stop - begin)]:
                yield part
            begin += len(block)
            if begin >= self.stop:
                break
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        if _status(self.path) != self.status:
            raise InputError(f"{self.path} was changed while it was read: start again when nothing writes to it")


class LongText:
    """Strings and parts of files, one after the other: a newline stands between where the first does not end in one.

    Args:
        parts: any number of them.
    """

    def __init__(self, parts: Sequence[str | FileText]) -> None:
        self._parts = parts

    def blocks(self) -> Iterator[str]:
        """The text, in blocks cut anywhere.

        Raises:
            InputError: a file cannot be read, or is no longer what it was.
        """
        last = "\n"
        for part in self._parts:
            if last != "\n":
                yield "\n"
            last = ""
            for block in [part] if isinstance(part, str) else part.blocks():
                if block:
                    yield block
                    last = block[-1]

    def sample(self, most: int) -> Iterator[str]:
        """Pieces spread evenly over the text, of `most` characters and a piece more at the most; all of a shorter one.

        No token of a tokenizer spans two pieces, see `text_pieces`.
        """
        share = min(1.0, most / max(1, self.characters))
        seen = taken = 0
        for piece in text_pieces(self.blocks()):
            seen += len(piece)
            if taken < share * seen:
                taken += len(piece)
                yield piece

    def read(self) -> str:
        """All of it."""
        return "".join(self.blocks())

    @property
    def characters(self) -> int:
        """How many it has."""
        return self._measured[0]

    @property
    def digest(self) -> str:
        """What tells it from others, wherever it lies."""
        return self._measured[1]

    @property
    def blank(self) -> bool:
        """Whether it has nothing but blanks."""
        return self._measured[2]

    @cached_property
    def _measured(self) -> tuple[int, str, bool]:
        characters, digest, blank = 0, hashlib.sha256(), True
        for block in self.blocks():
            characters += len(block)
            digest.update(block.encode("utf-8", "surrogatepass"))
            blank = blank and not block.strip()
        return characters, digest.hexdigest(), blank


def _status(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): expected a text file in UTF-8") from error
    return status.st_size, status.st_mtime_ns
