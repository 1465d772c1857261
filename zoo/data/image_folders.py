"""Image folders, and lists (of captions, of labels) that name their images."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from zoo.data.image_rows import choose_column
from zoo.data.lines import reading
from zoo.data.records import Record
from zoo.data.splits import by_split, is_split, split_called
from zoo.errors import InputError

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".webp", ".avif"),
    *(".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pbm"),
)

FILE_NAME_COLUMNS = ("file_name", "image", "filename", "file", "image_path", "path", "image_name", "img")
"""What the column of a list that names the images may be called."""

HIDDEN = (".", "__MACOSX")
"""What the names of files and folders begin with that are not looked at."""

MOST_MISSING = 0.01
"""The share of a list's rows whose images may be missing."""


def entries(folder: Path) -> list[Path]:
    """What is in a folder, but for hidden files and folders, sorted. Raises InputError if it cannot be read."""
    with reading(str(folder), 1):
        return sorted(path for path in folder.iterdir() if not path.name.startswith(HIDDEN))


def split_folders(folder: Path, is_part: Callable[[Path], bool]) -> dict[str, Path]:
    """{split: folder}, where there is one to train on, or nothing else beside those of other splits; else none.

    Args:
        folder: where they are.
        is_part: whether a folder that is called as a split to validate or test on is one, whatever is beside it.

    Raises:
        InputError: two are for the same split, or there is such a part and something else, but none to train on.
    """
    inside = [path for path in entries(folder) if path.is_dir() or path.name.lower().endswith(IMAGE_SUFFIXES)]
    found = {path.name: path for path in inside if path.is_dir() and is_split(path.name)}
    if not any(split_called(name) == "train" for name in found):
        part = next(filter(is_part, found.values()), None)
        if part is None:
            return {}
        other = next((path.name for path in inside if path.name not in found), None)
        if other is not None:
            raise InputError(
                f"{folder} has a folder {part.name} and beside it {other}, but none called train: put what is to be "
                "trained on into a folder of that name, or give the folder to use"
            )
    return by_split(folder, found)


def file_name(record: Record, column: str | None) -> str:
    """The name of an image in a list's row. Raises InputError if there is no such column, or it is empty."""
    column = choose_column(record.place, record.values, column, FILE_NAME_COLUMNS, "--image_column")
    name = record.values[column]
    if not isinstance(name, str) or not name.strip():
        given = type(name).__name__ if name and not isinstance(name, str) else "empty"
        raise InputError(f"{record.place}: the file name in {column!r} is {given}: expected the name of an image")
    return name.strip()


class ImageFolder:
    """The files below a folder, without hidden ones, by the names that a list of images may call them.

    Attributes:
        folder: the folder.
        images: the files whose names end as images' do.

    Raises:
        InputError: there is no image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
            for name in sorted(names):
                if not name.startswith(HIDDEN):
                    path = Path(parent, name)
                    self._files[path.relative_to(folder).as_posix()] = path
        self._called: dict[str, list[Path]] = {}
        for path in self._files.values():
            self._called.setdefault(path.name, []).append(path)
        self.images = [path for path in self._files.values() if path.name.lower().endswith(IMAGE_SUFFIXES)]
        if not self.images:
            raise InputError(f"{folder} has no images: expected files that end in {', '.join(IMAGE_SUFFIXES)}")

    def find(self, name: str) -> Path | None:
        """The file with this path below the folder, or else the only one below it with this name.

        Only files below the folder are found: a path that leads out of it is one of no file.
        """
        path = PurePosixPath(name.strip().replace("\\", "/"))
        if path.is_absolute():
            root = PurePosixPath(self.folder.resolve().as_posix())
            return self._files.get(str(path.relative_to(root))) if path.is_relative_to(root) else None
        called = self._called.get(str(path), []) if len(path.parts) == 1 else []
        return self._files.get(str(path)) or (called[0] if len(called) == 1 else None)


class MissingImages:
    """Counts the rows of lists (of captions, of labels) that are of images which are in none of the folders."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._rows: Counter[Path] = Counter()
        self._missing: dict[Path, dict[str, int]] = {}
        self._folders: dict[Path, list[str]] = {}

    def add(self, file: Path, folder: Path, rows: int, missing: dict[str, int]) -> None:
        """Note that of a list's rows these are missing in this folder: {image: rows}."""
        if file in self._missing:
            missing = {name: count for name, count in self._missing[file].items() if name in missing}
        self._rows[file], self._missing[file] = rows, missing
        if str(folder) not in self._folders.setdefault(file, []):
            self._folders[file].append(str(folder))

    def notes(self) -> list[str]:
        """A line for each list of which a few are missing. Raises InputError if it is more than MOST_MISSING."""
        notes = []
        for file, missing in self._missing.items():
            count = sum(missing.values())
            said = (
                f"{count:,} of {self._rows[file]:,} {self._what} in {file} are of images that are not in "
                f"{' or '.join(self._folders[file])} (such as {next(iter(missing), '')})"
            )
            if count > MOST_MISSING * self._rows[file]:
                raise InputError(
                    f"{said}: expected at most {MOST_MISSING:.0%}; add the images, or take these lines out of the file"
                )
            if count:
                notes.append(f"{said}: left out")
        return notes
