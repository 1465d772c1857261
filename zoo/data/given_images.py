"""The images that a script is to work on: its arguments, or those that standard input names; and lines about them."""

import itertools
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from zoo.data.given_texts import are_typed
from zoo.data.image_folders import HIDDEN, IMAGE_SUFFIXES
from zoo.data.image_tensors import BATCH
from zoo.data.images import Resize, image_tensor, read_image
from zoo.data.lines import in_chunks, reading
from zoo.errors import InputError

MAX_NAME = 1 << 16
"""A line of so many bytes is no path on any system."""

# Bytes of a name that are not UTF-8 come as surrogates, which no UTF-8 output can have.
SURROGATES = re.compile("[\ud800-\udfff]")
# Those, and whatever ends a line, separates columns or is obeyed by a terminal.
UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class GivenImages:
    """The images that the arguments name; without arguments, those that standard input names, a path a line.

    A path is a file's or a folder's. Of a folder all files below it are taken whose names end as images' do, but for
    hidden ones: first the folder's own, sorted, then those of each folder in it. Empty lines are skipped.

    What is wrong with an image is said in one line on standard error, and the others are read.

    Args:
        names: the arguments.

    Attributes:
        count: images given so far; a folder in which there is none to read counts as one.
        broken: how many of them could not be read.

    Raises:
        InputError: there are no arguments, and standard input is closed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.count = self.broken = 0
        if not names and sys.stdin is None:
            raise InputError("standard input is closed: give images")
        self._typed = are_typed(names, None)
        if self._typed:
            print("the path of an image or a folder a line; Ctrl-D ends", file=sys.stderr)
        self._files = _files(names or _named_by(sys.stdin.buffer))

    def batches(self, size: int, resize: Resize) -> Iterator[tuple[list[str], Tensor]]:
        """The images that can be read: names and (B, 3, size, size) uint8, no more than 64 at a time.

        While someone types, an image at a time. Progress is drawn on standard error, if that is a terminal on which
        nothing else is written.

        Raises:
            InputError: a line of standard input is no path; the images before it come first.
        """
        silent = self._typed or sys.stdout.isatty()
        with tqdm(unit=" images", disable=True if silent else None) as progress:
            for chunk in in_chunks(self._files, 1 if self._typed else BATCH):
                names, tensors = [], []
                for file in chunk:
                    try:
                        tensors.append(image_tensor(read_given(file), size, resize))
                        names.append(str(file))
                    except InputError as error:
                        self.broken += 1
                        tqdm.write(f"error: {' '.join(str(error).split())}", file=sys.stderr)
                self.count += len(chunk)
                if tensors:
                    yield names, torch.stack(tensors)
                progress.update(len(chunk))

    def exit_code(self) -> int:
        """0 if all images could be read, else 2; a line on standard error counts those of several that could not."""
        if self.broken and self.count > 1:
            print(f"error: {self.broken:,} of {self.count:,} images could not be read", file=sys.stderr)
        return 2 if self.broken else 0


def read_given(file: str | InputError) -> Image.Image:
    """Read an image by its name. Raises InputError as `read_image` does, or what is given in place of a name."""
    if isinstance(file, InputError):
        raise file
    # Absolute, as `read_image` takes "~draft.png" to be in the home of a user called draft.
    return read_image(Path(os.path.expanduser(file)).absolute(), UNPRINTABLE.sub("\ufffd", file))


def table_line(*cells: str) -> str:
    """Cells with tabs between them. What in a cell would break the line, or is not UTF-8, becomes U+FFFD."""
    return "\t".join(UNPRINTABLE.sub("\ufffd", cell) for cell in cells)


def json_line(values: Mapping[str, Any]) -> str:
    """A JSON object in one line, letters of all scripts as they are; what is not UTF-8 becomes U+FFFD."""
    return SURROGATES.sub("\ufffd", json.dumps(values, ensure_ascii=False))


def _files(names: Iterable[str]) -> Iterator[str | InputError]:
    """The names of files, and in place of what names none what is wrong with it."""
    for name in names:
        folder = os.path.expanduser(name)
        if not name:
            yield InputError("the name of an image is empty: expected the path of a file or a folder")
        elif os.path.isdir(folder):
            yield from _files_below(folder)
        else:
            yield name


def _files_below(folder: str) -> Iterator[str | InputError]:
    unreadable: list[OSError] = []
    found = False
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(HIDDEN):
                found = True
                yield os.path.join(parent, name)
    for error in unreadable:
        place = UNPRINTABLE.sub("\ufffd", str(error.filename))
        yield InputError(f"{place} cannot be read ({error.strerror}): expected a folder that you may read")
    if not found and not unreadable:
        place = UNPRINTABLE.sub("\ufffd", folder)
        yield InputError(f"{place} has no images: expected files that end in {', '.join(IMAGE_SUFFIXES)}")


def _named_by(file: BinaryIO) -> Iterator[str]:
    for number in itertools.count(1):
        with reading("standard input", number):
            line = file.readline(MAX_NAME)
        if not line:
            return
        if b"\0" in line or len(line) == MAX_NAME:
            raise InputError(
                f"standard input, line {number:,} is no path: expected paths of images in UTF-8, one a line"
            )
        name = os.fsdecode(line.removesuffix(b"\n").removesuffix(b"\r"))
        if number == 1:
            name = name.removeprefix("\ufeff")
        if name.strip():
            yield name
