"""What captioned and labelled images share: the rows of data sets with a column of images, and what is held out."""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from zoo.data.labelled_rows import data_set_records
from zoo.data.labelled_texts import take_split
from zoo.data.records import Record, shortened
from zoo.data.rows import load_splits, reading_rows
from zoo.data.splits import by_split, is_split, is_test
from zoo.data.stored_images import StoredImage
from zoo.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset


class _Keyed(Protocol):
    @property
    def key(self) -> Hashable: ...


Row = TypeVar("Row")
KeyedRow = TypeVar("KeyedRow", bound=_Keyed)

_LISTS = ("captions", "metadata", "labels")
_SHARD = re.compile(r"(?P<split>.+?)(-\d+-of-\d+(-\w+)?)?\.parquet", re.IGNORECASE)


def read_splits(
    splits_of: Callable[[str], dict[str, Callable[[], list[Row]]]],
    data: str,
    validation_data: str | None,
    test_data: str | None,
) -> tuple[list[Row], dict[str, list[Row]]]:
    """(training rows, {validation or a test split: rows}); there may be no validation split.

    Args:
        splits_of: gives the splits of a source, which are read by calling them.
        data, validation_data, test_data: sources; the latter two are used instead of such splits of `data`.
    """
    splits = splits_of(data)
    train = take_split(data, splits, "train")()
    others: dict[str, list[Row]] = {}
    if validation_data is not None:
        others["validation"] = take_split(validation_data, splits_of(validation_data), "validation")()
    elif "validation" in splits:
        others["validation"] = splits["validation"]()
    if test_data is not None:
        others["test"] = take_split(test_data, splits_of(test_data), "test")()
    else:
        others |= {name: read() for name, read in splits.items() if is_test(name)}
    return train, others


def choose_column(place: str, columns: Collection[str], wanted: str | None, usual: Iterable[str], option: str) -> str:
    """The column that is wanted, or else the first usual one. Raises InputError where there is none."""
    candidates = list(usual) if wanted is None else [wanted]
    for name in candidates:
        if name in columns:
            return name
    asked = " or ".join(map(repr, candidates[:3]))
    raise InputError(f"{place} has no column {asked}: its columns are {shortened(columns)}; name one with {option}")


def hold_out(
    data: str, rows: Sequence[KeyedRow], labels_of: Callable[[KeyedRow], set[str]], fraction: float, seed: int
) -> tuple[list[KeyedRow], list[KeyedRow]]:
    """Rows to train on, and those of a fraction of the images to validate on: equal images are on one side.

    Args:
        data: what messages call it.
        rows: those of one image have the same key, or paths with the same content.
        labels_of: the labels of a row; each stays with an image to train on.
        fraction, seed: see `draw`.

    Raises:
        InputError: see `draw`.
    """
    keys = _content_keys(row.key for row in rows)
    labels: dict[Hashable, set[str]] = {}
    for row in rows:
        labels.setdefault(keys[row.key], set()).update(labels_of(row))
    drawn = draw(data, labels, fraction, seed)
    return [row for row in rows if keys[row.key] not in drawn], [row for row in rows if keys[row.key] in drawn]


def _content_keys(keys: Iterable[Hashable]) -> dict[Hashable, Hashable]:
    """A key for each image's key, equal for files that are, byte for byte; keys that are no paths stay as they are.

    Only files are read that are as long as another. Empty ones are no images, and no two of them equal.
    """
    found: dict[Hashable, Hashable] = {key: key for key in keys}
    lengths = {key: key.stat().st_size for key in found if isinstance(key, Path) and key.is_file()}
    counts = Counter(lengths.values())
    for path, length in lengths.items():
        if length and counts[length] > 1:
            with suppress(OSError), path.open("rb") as file:  # it is reported where the image is needed
                found[path] = length, hashlib.file_digest(file, "blake2b").digest()
    return found


def draw(data: str, labels_of: Mapping[Hashable, set[str]], fraction: float, seed: int) -> set[Hashable]:
    """A fraction of the images, {key: labels}, such that every label stays with one that is not drawn.

    Raises:
        InputError: none can be drawn.
    """
    left = Counter(label for labels in labels_of.values() for label in labels)
    count = min(max(1, round(fraction * len(labels_of))), len(labels_of) - 1)
    keys = list(labels_of)
    random.Random(seed).shuffle(keys)
    drawn: set[Hashable] = set()
    for key in keys:
        if len(drawn) < count and all(left[label] > 1 for label in labels_of[key]):
            drawn.add(key)
            left.subtract(labels_of[key])
    if not drawn:
        raise InputError(
            f"{data} has too few images to draw validation images from: expected two or more different ones (with one "
            "label at least); give more, or --validation_data"
        )
    return drawn


# Data sets with a column of images


class ImageRow(NamedTuple):
    """An image of a data set, its file name if it has one, and the other columns; equal images have the same `key`."""

    image: StoredImage
    name: str | None
    key: Hashable
    record: Record


def is_data_set(folder: Path) -> bool:
    """Whether a folder is one that `Dataset.save_to_disk` wrote, or has Parquet files with the images in them."""
    return _is_saved(folder) or bool(_parquet_files(folder))


def data_set_splits(source: str) -> "dict[str, Dataset]":
    """The splits of a Parquet file, of a folder that `is_data_set`, or of a hub data set, by `split_called`.

    Raises:
        InputError: see `zoo.data.rows.load_splits` and `zoo.data.splits.by_split`.
    """
    path = Path(source).expanduser()
    if not path.is_dir() or _is_saved(path):
        return by_split(source, load_splits(source))
    groups: dict[str, list[Path]] = {}
    for file in _parquet_files(path):
        match = _SHARD.fullmatch(file.name)
        groups.setdefault(match["split"] if match else file.stem, []).append(file)
    if not any(map(is_split, groups)):
        groups = {"train": [file for files in groups.values() for file in files]}
    return {split: _joined(source, files) for split, files in by_split(source, groups).items()}


def data_set_rows(place: str, rows: "Dataset", image_column: str | None) -> Iterator[ImageRow]:
    """The rows of a data set that messages call `place`; images are fetched from it when they are needed.

    To tell which rows have the same image, only the images are read that have as many bytes as another.

    Args:
        image_column: a column of the `datasets` Image feature, or of files' bytes; default: "image", or the only one.

    Raises:
        InputError: there is no such column.
    """
    from datasets import Image

    column = _image_column(place, rows, image_column)
    images = rows.select_columns([column])
    if isinstance(rows.features[column], Image):
        images = images.cast_column(column, Image(decode=False))
    with reading_rows(place):
        keys = _keys(images, column)
    records = data_set_records(place, rows.remove_columns([column]))
    for number, ((name, key), record) in enumerate(zip(keys, records, strict=True)):
        image = StoredImage(record.place, partial(_content, images, column, number, record.place))
        yield ImageRow(image, name, key, record)


def _is_saved(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _parquet_files(folder: Path) -> list[Path]:
    for below in (folder, folder / "data"):
        files = [file for file in sorted(below.glob("*.parquet")) if file.stem.lower() not in _LISTS]
        if files:
            return files
    return []


def _joined(source: str, files: list[Path]) -> "Dataset":
    from datasets import concatenate_datasets

    parts = [rows for file in files for rows in load_splits(str(file)).values()]
    for file, rows in zip(files, parts, strict=True):
        if set(rows.column_names) != set(parts[0].column_names):
            there = f"{shortened(rows.column_names)}; {files[0].name} has {shortened(parts[0].column_names)}"
            raise InputError(f"{file} has the columns {there}: expected the same in all parts of {source}")
    try:
        return concatenate_datasets(parts)
    except ValueError as error:  # columns of other types
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the Parquet files of {source} cannot be joined ({reason}): give one of them") from error


def _image_column(place: str, rows: "Dataset", wanted: str | None) -> str:
    found = [name for name, feature in rows.features.items() if _holds_images(feature)]
    if wanted is None and len(found) == 1:
        return found[0]
    name = "image" if wanted is None else wanted
    if name not in found:
        there = f"its columns are {shortened(rows.column_names)}, with images {shortened(found) or 'none'}"
        raise InputError(f"{place} has no column {name!r} of images: {there}; name one with --image_column")
    return name


def _holds_images(feature: Any) -> bool:
    from datasets import Image

    is_file = isinstance(feature, Mapping) and {"bytes", "path"} <= feature.keys()
    return isinstance(feature, Image) or is_file or getattr(feature, "dtype", None) in ("binary", "large_binary")


def _content(images: "Dataset", column: str, number: int, place: str) -> Path | bytes:
    with reading_rows(place):
        stored = images[number][column]
    if isinstance(stored, dict):
        stored = Path(stored["path"]) if stored["bytes"] is None and stored["path"] else stored["bytes"]
    if stored is None:
        raise InputError(f"{place} has no image: fill it in or remove the row")
    return stored


def _keys(images: "Dataset", column: str) -> list[tuple[str | None, Hashable]]:
    """The file name of each row, and a key: the file's length, and a digest if others are as long."""
    import pyarrow.compute

    def batches() -> Iterator[tuple[Any, Any]]:
        for table in images.with_format("arrow").iter(batch_size=1000):
            stored = table[column]
            if hasattr(stored.type, "fields"):  # a struct of bytes and path
                paths = pyarrow.compute.struct_field(stored, "path").to_pylist()
                yield pyarrow.compute.struct_field(stored, "bytes"), paths
            else:
                yield stored, [None] * len(stored)

    lengths = [length for contents, _ in batches() for length in pyarrow.compute.binary_length(contents).to_pylist()]
    shared = {length for length, count in Counter(lengths).items() if count > 1}
    keys: list[tuple[str | None, Hashable]] = []
    for contents, paths in batches():
        for content, path in zip(contents, paths, strict=True):
            length = lengths[len(keys)]
            if length is None:
                keys.append((path, path or ("no image", len(keys))))
            else:
                digest = hashlib.blake2b(content.as_buffer()).digest() if length in shared else b""
                keys.append((path, (length, digest)))
    return keys
