"""Rows with columns, one at a time and in constant memory: CSV, TSV, JSON lines, JSON arrays and Parquet.

All but Parquet may be gzipped. Whatever is wrong with a file is an InputError that names the line. A small file that
would fill the memory, once it is unpacked, is refused.
"""

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from zoo.data.gunzipped import opened
from zoo.data.json_records import is_json_array, json_array, json_lines
from zoo.data.lines import MAX_CHARACTERS, read_lines, too_long
from zoo.errors import InputError

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import FileMetaData

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
RECORD_SUFFIXES = (*TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES), ".parquet")


MAX_ROW_GROUP = 2**30
"""Bytes, unpacked, that a row group of Parquet may have."""

BATCH_ROWS, BATCH_BYTES = 1000, 2**28

MAX_PARQUET_RATIO, FREE_PARQUET_BYTES = 1_000, 2**28
"""How many times as large as a Parquet file its values may be, beyond so many bytes: one of 1 kB can have gigabytes in
it. Texts come to 2 to 20 times, and columns of few values to some hundreds."""


class Record(NamedTuple):
    """One row: `place` says where it stands ("reviews.csv, line 3"), `values` is {column: value}."""

    place: str
    values: dict[str, Any]


def is_record_file(path: Path) -> bool:
    """Whether the name ends as that of a file that `read_records` reads."""
    return path.name.lower().endswith(RECORD_SUFFIXES)


def stem_of(path: Path) -> str:
    """The name of such a file without its ending."""
    return next(path.name[: -len(suffix)] for suffix in RECORD_SUFFIXES if path.name.lower().endswith(suffix))


def read_records(path: Path, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """The rows of a file, in its order; blank lines are skipped.

    - `.csv`: quoted as Python's and other programs write it, a quoted field may have several lines;
    - `.tsv`: fields between tabs, where a quote mark means nothing (SST-2's files hold single ones);
    - `.jsonl`, `.ndjson`: an object a line;
    - `.json`: one array of objects, or an object a line;
    - `.parquet`; and all others with `.gz` behind.

    The values of CSV and TSV are text, those of JSON and Parquet what they are there.

    Args:
        path: a file that ends in one of `RECORD_SUFFIXES`.
        columns: the names of the columns of a CSV or TSV file that has no header line.

    Raises:
        InputError: at once, if there is no such file or its name ends otherwise; while it is read, if it is empty,
            damaged, binary or not UTF-8, or a row is malformed or too long. A header without rows is no error.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected a file ending in {', '.join(RECORD_SUFFIXES)}")
    if not path.exists():
        raise InputError(f"{path}: no such file; give one that exists")
    if not is_record_file(path):
        raise InputError(f"{path} has an unknown ending: expected one of {', '.join(RECORD_SUFFIXES)}")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if columns is not None:
        if suffix not in (".csv", ".tsv"):
            raise InputError(f"{path} names its columns itself: --columns is for CSV and TSV files without a header")
        _check_names("--columns", columns)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: expected rows")
    return _read_parquet(path) if suffix == ".parquet" else _read_text(path, suffix, columns)


def _read_text(path: Path, suffix: str, columns: Sequence[str] | None) -> Iterator[Record]:
    name = str(path)
    with opened(path) as file:
        if suffix == ".csv":
            yield from _table(_csv_rows(file, name), name, columns)
        elif suffix == ".tsv":
            rows = ((number, line.split("\t")) for number, line in read_lines(file, name) if line)
            yield from _table(rows, name, columns)
        elif suffix == ".json" and is_json_array(file, name):
            yield from map(Record._make, json_array(file, name))
        else:
            yield from map(Record._make, json_lines(file, name))


def shortened(names: Iterable[str]) -> str:
    """The names of columns for a message, on one line; of a long name its beginning."""
    # A file without a header has whole texts in its first line.
    return " ".join(", ".join(name if len(name) <= 30 else f"{name[:27]}..." for name in names).split())


# CSV and TSV


def _table(rows: Iterator[tuple[int, list[str]]], name: str, columns: Sequence[str] | None) -> Iterator[Record]:
    header = None if columns is None else list(columns)
    empty = True
    for number, fields in rows:
        empty = False
        place = f"{name}, line {number:,}"
        if header is None:
            header = [field.strip() for field in fields]
            _check_names(f"the header of {name}", header)
            continue
        if len(fields) != len(header):
            named = "the header" if columns is None else "--columns"
            raise InputError(
                f"{place} has {len(fields)} fields and {named} {len(header)} ({_first_few(header)}): expected as many "
                "in every row; put quote marks around a CSV field that holds a comma"
            )
        yield Record(place, dict(zip(header, fields, strict=True)))
    if empty:
        raise InputError(f"{name} is empty: expected rows")


def _csv_rows(file: BinaryIO, name: str) -> Iterator[tuple[int, list[str]]]:
    """(number of the line that the row begins in, fields)."""
    # The module's own limit holds for the whole process; it must let a row pass that we let pass.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CHARACTERS))
    start = characters = 0

    def lines() -> Iterator[str]:
        nonlocal characters
        for _, line in read_lines(file, name):
            characters += len(line)
            if characters > MAX_CHARACTERS:  # all that follows a quote mark left open is one field
                raise too_long(f"{name}, line {start:,}", "is a quote mark left open there?")
            yield line + "\n"

    reader = csv.reader(lines(), strict=True)
    while True:
        start, characters = reader.line_num + 1, 0
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{name}, line {start:,}: malformed CSV ({str(error).split(' - ')[0]}): expected quote marks around a "
                "whole field only, and a quote mark inside it written twice"
            ) from error
        if fields:
            yield start, fields


def _check_names(given: str, names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated or not names:
        fault = f"has {shortened(repeated[:1])!r} more than once" if repeated else "is empty"
        raise InputError(f"{given} {fault} ({_first_few(names)}): expected a name of its own for each column")


def _first_few(names: Sequence[str]) -> str:
    return shortened(names[:20]) + (", ..." if len(names) > 20 else "")


# Parquet


def _read_parquet(path: Path) -> Iterator[Record]:
    numbers = itertools.count(1)
    batches = _parquet_batches(path)
    while True:
        try:
            values = next(batches).to_pylist()
        except StopIteration:
            return
        except InputError:
            raise
        except Exception as error:  # times outside of Python's range, unknown time zones, damage: any type there is
            reason = str(error)[:200] or type(error).__name__
            raise InputError(f"{path} cannot be read as Parquet ({reason}): get the file again") from error
        for row in values:
            yield Record(f"{path}, row {next(numbers):,}", row)


def _parquet_batches(path: Path) -> "Iterator[RecordBatch]":
    from pyarrow.parquet import ParquetFile

    most = max(FREE_PARQUET_BYTES, MAX_PARQUET_RATIO * path.stat().st_size)
    unpacked = 0
    with ParquetFile(path) as file:
        _check_names(f"the schema of {path}", file.schema_arrow.names)
        for batch in file.iter_batches(_batch_rows(path, file.metadata)):
            unpacked += _unpacked(batch)
            if unpacked > most:
                raise InputError(
                    f"{path} has more than {most:,} bytes in it, as they are unpacked: expected a file of texts, not "
                    "one that was made to fill the memory"
                )
            yield batch


def _batch_rows(path: Path, metadata: "FileMetaData") -> int:
    """So few rows at a time that they fit, should each of them be the same value, which the file has but once."""
    largest = max((metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)), default=0)
    if largest > MAX_ROW_GROUP:
        raise InputError(
            f"{path} has a row group of {largest:,} bytes: expected at most {MAX_ROW_GROUP:,}; write the file again "
            "with smaller row groups"
        )
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(largest, 1)))


def _unpacked(batch: "RecordBatch") -> int:
    """How many bytes the batch's values may take: a value that rows share (a dictionary's) counts once for each."""
    import pyarrow.compute
    from pyarrow.types import is_dictionary

    size = 0
    for column in batch.columns:
        if not is_dictionary(column.type):
            shared = "dictionary<" in str(column.type)  # in lists; each of 4 bytes may stand for all the others
            size += column.nbytes * (column.nbytes // 4 if shared else 1)
        elif "string" in str(column.type.value_type) or "binary" in str(column.type.value_type):
            longest = pyarrow.compute.max(pyarrow.compute.binary_length(column.dictionary)).as_py() or 0
            size += longest * len(batch)
    return size
