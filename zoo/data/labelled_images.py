"""Images with a label each, to train, validate and test an image classifier on."""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.data.image_folders import ImageFolder, MissingImages, entries, file_name, split_folders
from zoo.data.image_rows import choose_column, data_set_rows, data_set_splits, hold_out, is_data_set, read_splits
from zoo.data.records import RECORD_SUFFIXES, Record, is_record_file, read_records
from zoo.data.splits import check_validation_fraction
from zoo.data.stored_images import ImageLabelData, LabelledImages, StoredImage
from zoo.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

LABEL_COLUMNS = ("label", "labels", "class", "category", "target")
"""What the column of labels may be called."""


def load_labelled_images(
    data: str,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    validation_data: str | None = None,
    test_data: str | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> ImageLabelData:
    """Load images with labels. The images themselves are not read before they are needed.

    A source is, in this order:

    - `scenes` (built in, see `zoo.data.scenes`), which has its own splits;
    - a folder of Parquet files, train.parquet, validation.parquet and test.parquet or one alone, or one that
      `Dataset.save_to_disk` wrote; or a Parquet file;
    - a folder with a folder of images for each label, or with a file that names images and their labels and is called
      metadata.* or labels.* (CSV, TSV, JSON lines or JSON); or with folders train, validation and test of that kind;
      or that file itself, beside the images;
    - a hub data set, `owner/name` or `owner/name:configuration`.

    Where the data has no validation split and there is no `validation_data`, a fraction of the training images is
    drawn; files that are equal, byte for byte, or named twice, go to the same side, and every label stays in the
    training images. A split of a data set whose labels are withheld (-1) is left out.

    Args:
        data: a source.
        image_column: of a data set, the column of images, default "image" or the only one; of a file of labels, the
            column of file names, default "file_name" or "image" and others like them.
        label_column: default "label" or others like it. Values are text, integers, or true and false.
        validation_data: a source to validate on: its validation split, or all of it if it has only one split.
        test_data: a source to test on, instead of what splits the data has whose names begin with "test".
        validation_fraction: more than 0, at most 0.5.
        seed: of the draw, and of the scenes.

    Raises:
        InputError: a source is missing, empty or malformed; a column or label is missing; there is one label only; a
            label to validate or test on is no training label; more than 1 % of the labels are of images that are not
            there; or `validation_fraction` is out of range.
    """
    check_validation_fraction(validation_fraction)
    if data == "scenes":
        if any(option is not None for option in (image_column, label_column, validation_data, test_data)):
            raise InputError("scenes has labels and splits of its own: leave out the options of other data")
        from zoo.data.scene_data import labelled_scenes

        return labelled_scenes(seed)
    source = _Source(image_column, label_column)
    train, held_out = read_splits(source.splits, data, validation_data, test_data)
    notes = [*source.notes, *source.missing.notes()]
    labels = _labels_of(data, train)
    for rows in held_out.values():
        _check_known(rows, labels)
    if "validation" not in held_out:
        train, held_out["validation"] = hold_out(data, train, lambda row: {row.label}, validation_fraction, seed)
    validation = _images(held_out.pop("validation"))
    tests = {name: _images(rows) for name, rows in held_out.items()}
    return ImageLabelData(data, _images(train), validation, tests, labels, notes)


class _Row(NamedTuple):
    """An image with its label; equal images have the same key, or paths with the same content."""

    image: StoredImage
    key: Hashable
    label: str


def _images(rows: list[_Row]) -> LabelledImages:
    return LabelledImages([row.image for row in rows], [row.label for row in rows])


def _labels_of(data: str, rows: list[_Row]) -> list[str]:
    labels = sorted({row.label for row in rows})
    if len(labels) < 2:
        only = f"only the label {labels[0]!r}" if labels else "no label"
        raise InputError(f"the training images of {data} have {only}: expected two or more labels to tell apart")
    if all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in labels):
        labels.sort(key=int)
    return labels


def _check_known(rows: list[_Row], labels: list[str]) -> None:
    known = set(labels)
    for row in rows:
        if row.label not in known:
            listed = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
            raise InputError(
                f"{row.image.place} has the label {row.label!r}, which no training image has: expected one of {listed}"
            )


@dataclass(frozen=True)
class _Source:
    """How sources are read; `notes` and `missing` gather what a reader of the results should know."""

    image_column: str | None
    label_column: str | None
    notes: list[str] = field(default_factory=list)
    missing: MissingImages = field(default_factory=lambda: MissingImages("labels"))

    def splits(self, data: str) -> dict[str, Callable[[], list[_Row]]]:
        """{split: what reads it}."""
        if not data.strip():
            raise InputError("a data source is empty: expected scenes, a folder, a file or a hub data set")
        path = Path(data).expanduser()
        if path.is_dir() and not is_data_set(path):
            return self._of_folder(path)
        if not path.is_dir() and is_record_file(path):
            if not path.exists():
                raise InputError(f"{path}: no such file; give one that exists")
            if not path.name.lower().endswith(".parquet"):
                return {"train": partial(self._of_list, path.parent, path)}
        elif path.is_file():
            raise InputError(f"{path} is one file: expected a folder of images, a file of labels, or Parquet")
        splits: dict[str, Callable[[], list[_Row]]] = {}
        found = data_set_splits(data)
        for split, rows in found.items():
            place = data if len(found) == 1 else f"{data}, split {split}"
            if self._are_labels_withheld(rows):
                self.notes.append(f"{place}: the labels are withheld, so it is left out")
            else:
                splits[split] = partial(self._of_data_set, place, rows)
        return splits

    def _of_folder(self, folder: Path) -> dict[str, Callable[[], list[_Row]]]:
        splits: dict[str, Callable[[], list[_Row]]] = {}
        file = _list_of_labels(folder)
        parts = split_folders(folder, _is_of_labels) if file is None else {}
        if "train" in parts and not _is_of_labels(parts["train"]):
            parts = {}  # "train" is a label: railways
        for split, part in (parts or {"train": folder}).items():
            file = _list_of_labels(part)
            if file is not None:
                splits[split] = partial(self._of_list, part, file)
            elif _has_folders(part) or split == "train":
                splits[split] = partial(self._of_classes, part)
            else:
                self.notes.append(f"{part} has no folder for each label: left out")
        return splits

    def _of_classes(self, folder: Path) -> list[_Row]:
        images = ImageFolder(folder).images
        rows, labels = [], set()
        for path in images:
            below = path.relative_to(folder).parts
            if len(below) > 1:
                rows.append(_Row(StoredImage(str(path), path), path, below[0]))
                labels.add(below[0])
        if not rows:
            raise InputError(
                f"{folder} has images, but none in a folder for its label: expected folders such as {folder}/cat and "
                f"{folder}/dog, or a file metadata.csv with the columns file_name and label"
            )
        if len(rows) < len(images):
            count = f"{len(images) - len(rows):,} of {len(images):,}"
            self.notes.append(f"{folder}: {count} images are in no label's folder: left out")
        empty = [path.name for path in entries(folder) if path.is_dir() and path.name not in labels]
        if empty:
            self.notes.append(f"{folder}: no images in {', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''}")
        return rows

    def _of_list(self, folder: Path, file: Path) -> list[_Row]:
        images = ImageFolder(folder)
        rows: list[_Row] = []
        missing: dict[str, int] = {}
        for record in read_records(file):
            name = file_name(record, self.image_column)
            label = self._label(record)
            path = images.find(name)
            if path is None:
                missing[name] = missing.get(name, 0) + 1
            else:
                rows.append(_Row(StoredImage(str(path), path), path, label))
        if not rows:
            such = f", such as {next(iter(missing))}," if missing else ""
            raise InputError(
                f"none of the images that {file} has labels of{such} is in {folder}: check both, and that the file "
                "names the images as they are called there"
            )
        self.missing.add(file, folder, len(rows) + sum(missing.values()), missing)
        return rows

    def _of_data_set(self, place: str, rows: "Dataset") -> list[_Row]:
        found = data_set_rows(place, rows, self.image_column)
        labelled = [_Row(row.image, row.key, self._label(row.record)) for row in found]
        if not labelled:
            raise InputError(f"{place} has no rows: expected images with labels")
        return labelled

    def _are_labels_withheld(self, rows: "Dataset") -> bool:
        usual = [name for name in LABEL_COLUMNS if name in rows.column_names]
        column = self.label_column or next(iter(usual), None)
        if column not in rows.column_names or getattr(rows.features[column], "names", None) is None:
            return False
        return len(rows) > 0 and all(value == -1 for value in rows[column])

    def _label(self, record: Record) -> str:
        column = choose_column(record.place, record.values, self.label_column, LABEL_COLUMNS, "--label_column")
        value: Any = record.values[column]
        if value is None or (isinstance(value, str) and not value.strip()):
            raise InputError(f"{record.place} has no label in {column!r}: fill it in or remove the row")
        if not isinstance(value, str | int):
            raise InputError(
                f"{record.place}: the label is {type(value).__name__}, expected text, an integer, or true or false: "
                "name another column with --label_column"
            )
        return str(value).strip()


def _list_of_labels(folder: Path) -> Path | None:
    names = [f"{name}{suffix}" for name in ("metadata", "labels") for suffix in RECORD_SUFFIXES]
    found = [path for path in entries(folder) if path.name.lower() in names and path.is_file()]
    if len(found) > 1:
        raise InputError(f"{folder} has {found[0].name} and {found[1].name}: give the one to use as --data")
    return found[0] if found else None


def _is_of_labels(folder: Path) -> bool:
    """Whether a folder's images have labels of their own, and the folder is none."""
    return _list_of_labels(folder) is not None or _has_folders(folder)


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in entries(folder))
