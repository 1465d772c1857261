"""From the name of a source to rows with a text and labels: built in, local files and folders, or a hub data set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.data.lines import reading
from zoo.data.records import Record, is_record_file, read_records, shortened, stem_of
from zoo.data.rows import load_splits, reading_rows
from zoo.data.splits import SPLIT_NAMES, by_split, is_left_to_datasets, split_called
from zoo.data.surnames import surnames
from zoo.data.text_files import normalise
from zoo.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

SHORT_NAMES = {"ag_news": "fancyzhx/ag_news", "imdb": "stanfordnlp/imdb", "sst2": "stanfordnlp/sst2"}

TEXT_COLUMNS = {"stanfordnlp/sst2": "sentence"}
"""The text columns of hub data sets that do not call it "text"."""


class LabelledRow(NamedTuple):
    """A text, its labels, and where they stand ("reviews.csv, line 3")."""

    place: str
    text: str
    labels: tuple[str, ...]


class Split(NamedTuple):
    """A split that has not been read yet: the columns its text is made of, and what reads its records."""

    text_columns: tuple[str, ...]
    records: Callable[[], Iterator[Record]]


@dataclass(frozen=True)
class LabelledSource:
    """How sources are read; the options are those of `zoo.data.labelled_texts.load_labelled_texts`.

    What a reader of the results should know is added to `notes`.
    """

    text_column: str | None = None
    label_column: str = "label"
    columns: Sequence[str] | None = None
    label_separator: str | None = None
    multi_label: bool = False
    notes: list[str] = field(default_factory=list)

    def splits(self, source: str) -> dict[str, Split]:
        """{train, validation or test: split} as far as there are such; else the only split under its own name.

        Raises:
            InputError: there is no such source, or it cannot be read.
        """
        if not source.strip():
            raise InputError("a data source is empty: expected surnames, a file, a folder or a hub data set")
        if source == "surnames":
            return {split: self._split(partial(_surname_records, split)) for split in surnames()}
        path = Path(source).expanduser()
        if path.is_file() or (is_record_file(path) and not path.exists()):
            return {"train": self._split(partial(read_records, path, self.columns))}
        files = _files_of_splits(path) if path.is_dir() else {}
        if files:
            return {split: self._split(partial(read_records, file, self.columns)) for split, file in files.items()}
        if self.columns is not None:
            raise InputError(f"{source} names its columns itself: --columns is for CSV and TSV files without a header")
        return self._data_set_splits(source, source if path.exists() else SHORT_NAMES.get(source, source))

    def rows(self, source: str, split: Split) -> list[LabelledRow]:
        """All rows of a split.

        Raises:
            InputError: there are none, or one lacks a column, its text or its label, or has a label of another kind.
        """
        rows = [
            LabelledRow(record.place, text_of(record, split.text_columns), self._labels(record))
            for record in split.records()
        ]
        if not rows:
            raise InputError(f"{source} has no rows: expected texts with labels")
        return rows

    def _split(self, records: Callable[[], Iterator[Record]], text_column: str = "text") -> Split:
        return Split(names_in(self.text_column or text_column, "+"), records)

    def _data_set_splits(self, source: str, name: str) -> dict[str, Split]:
        found = load_splits(name)
        splits: dict[str, Split] = {}
        for split, (own_name, rows) in by_split(source, {own: (own, rows) for own, rows in found.items()}).items():
            if split not in SPLIT_NAMES and len(found) > 1:
                continue
            if _are_labels_withheld(rows, self.label_column):
                self.notes.append(f"{source}: the labels of the split {own_name} are withheld, so it is left out")
                continue
            records = partial(data_set_records, f"{source}, split {own_name}", rows)
            splits[split] = self._split(records, TEXT_COLUMNS.get(name, "text"))
        return splits

    def _labels(self, record: Record) -> tuple[str, ...]:
        value = _value(record, self.label_column, "--label_column")
        if not self.multi_label:
            if isinstance(value, list):
                raise InputError(f"{record.place} has a list of labels, expected one: add --multi_label to allow more")
            return (self._label(record, value),)
        if isinstance(value, str):
            if self.label_separator is None:
                raise InputError(
                    f"{record.place}: the labels are the text {value[:30]!r}: with --multi_label expected a list, or a "
                    "text and --label_separator"
                )
            value = [label for label in value.split(self.label_separator) if label.strip()]
        values = value if isinstance(value, list) else [value]
        return tuple(dict.fromkeys(self._label(record, label) for label in values))

    def _label(self, record: Record, value: Any) -> str:
        if value is None or (isinstance(value, str) and not value.strip()):
            raise InputError(f"{record.place} has no label in {self.label_column!r}: fill it in or remove the row")
        if not isinstance(value, str | int):
            raise InputError(
                f"{record.place}: the label is {type(value).__name__}, expected text, an integer, or true or false: "
                "name another column with --label_column"
            )
        return str(value).strip()


def names_in(text: str, separator: str) -> tuple[str, ...]:
    """The names of several columns given as one text, such as title+description or class,title,description."""
    return tuple(name.strip() for name in text.split(separator))


def text_of(record: Record, columns: Sequence[str]) -> str:
    """The texts of some columns, joined with a blank. Raises InputError where one is missing, or no text is left."""
    parts = []
    for name in columns:
        value = _value(record, name, "--text_column")
        if not isinstance(value, str | None):
            raise InputError(
                f"{record.place}: column {name!r} holds {type(value).__name__}, expected text: name another with "
                "--text_column"
            )
        if value is not None and value.strip():
            parts.append(normalise(value))
    if not parts:
        raise InputError(f"{record.place} has no text in {'+'.join(columns)!r}: fill it in or remove the row")
    return " ".join(parts)


def _value(record: Record, name: str, option: str) -> Any:
    if name not in record.values:
        raise InputError(
            f"{record.place} has no column {name!r}: its columns are {shortened(record.values)}; name one with {option}"
            ", or all of a CSV or TSV file without a header with --columns"
        )
    return record.values[name]


def _files_of_splits(folder: Path) -> dict[str, Path]:
    """The files that are called after splits; none if the `datasets` library should read the folder."""
    with reading(str(folder), 1):
        files = {file.name: file for file in sorted(folder.iterdir()) if is_record_file(file) and file.is_file()}
    of_splits = {name: file for name, file in files.items() if split_called(stem_of(file)) in SPLIT_NAMES}
    found = by_split(folder, of_splits, lambda name: stem_of(files[name]))
    others = {stem_of(file): file for name, file in files.items() if name not in of_splits}
    if "train" in found or not found:
        return found
    return {} if is_left_to_datasets(others) else found | others


def _surname_records(split: str) -> Iterator[Record]:
    for number, row in enumerate(surnames()[split], start=1):
        yield Record(f"surnames, split {split}, row {number:,}", {"text": row.name, "label": row.language})


def data_set_records(name: str, rows: "Dataset") -> Iterator[Record]:
    """The rows of a data set that messages call `name`, with the names of labels for their numbers."""
    number = 0
    batches = rows.iter(batch_size=1000)  # a row at a time takes 80 times as long
    while True:
        with reading_rows(name):
            batch = next(batches, None)
        if batch is None:
            return
        for values in zip(*batch.values(), strict=True):
            number += 1
            named = {
                column: _with_names(rows.features[column], value) for column, value in zip(batch, values, strict=True)
            }
            yield Record(f"{name}, row {number:,}", named)


def _with_names(feature: Any, value: Any) -> Any:
    """The names of `ClassLabel` integers, None for the -1 that stands for a withheld one."""
    if isinstance(value, list):
        inner = getattr(feature, "feature", None)
        return [item if isinstance(item, list) else _with_names(inner, item) for item in value]
    names = getattr(feature, "names", None)
    if names is None or value is None:
        return value
    return names[value] if 0 <= value < len(names) else None


def _are_labels_withheld(rows: "Dataset", label_column: str) -> bool:
    if label_column not in rows.column_names or getattr(rows.features[label_column], "names", None) is None:
        return False
    return len(rows) > 0 and all(value == -1 for value in rows[label_column])
