"""Rows of files: what goes in comes out, memory stays bounded, and each fault is one line that says where it is."""

import csv
import gzip
import io
import itertools
import json
import os
import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import records
from zoo.data.lines import MAX_CHARACTERS, read_lines
from zoo.data.records import RECORD_SUFFIXES, Record, is_record_file, read_records
from zoo.errors import InputError

# NUL is refused; a lone \r ends no line of ours but does for Python's csv.
texts = st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=20)
json_values = st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=3)


def write(path: Path, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def values(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [record.values for record in read_records(path, **options)]


def refused(path: Path, columns: list[str] | None = None) -> str:
    """The one-line message that reading the whole file ends with."""
    with pytest.raises(InputError) as caught:
        list(read_records(path, columns))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lines", "records"):
        monkeypatch.setattr(f"zoo.data.{module}.MAX_CHARACTERS", 100)


class Endless(io.RawIOBase):
    """A file without an end; `given` counts the bytes that were read of it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        buffer[:] = (self.content * (size // len(self.content) + 1))[:size]
        self.given += size
        return size


# What goes in comes out


@settings(deadline=None)
@given(st.lists(st.tuples(texts, texts), max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_csv_round_trip(rows: list[tuple[str, str]], end: str, quote_all: bool) -> None:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator=end, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL)
    writer.writerow(["text", "label"])
    writer.writerows(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "rows.csv"), written.getvalue())
        assert values(path) == [{"text": text, "label": label} for text, label in rows]


@settings(deadline=None)
@given(st.lists(st.dictionaries(texts, json_values, max_size=3), min_size=1, max_size=8), st.booleans())
def test_json_round_trip(objects: list[dict[str, Any]], ascii_only: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = "\n".join(json.dumps(item, ensure_ascii=ascii_only) for item in objects)
        assert values(write(Path(folder, "rows.jsonl"), lines)) == objects
        assert values(write(Path(folder, "rows.json"), lines)) == objects
        for indent in (None, 2):
            array = json.dumps(objects, ensure_ascii=ascii_only, indent=indent)
            assert values(write(Path(folder, "rows.json"), array)) == objects


@pytest.mark.parametrize("suffix", RECORD_SUFFIXES)
def test_every_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix.upper()}"
    rows = [{"text": f"grün {i}", "label": "b"} for i in range(3)]
    kind = suffix.removesuffix(".gz")
    if kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind in (".csv", ".tsv"):
        mark = "," if kind == ".csv" else "\t"
        content = "\n".join(mark.join(fields) for fields in [list(rows[0]), *[list(row.values()) for row in rows]])
        path.write_bytes(gzip.compress(content.encode()) if suffix.endswith(".gz") else content.encode())
    else:
        content = "\n".join(map(json.dumps, rows))
        path.write_bytes(gzip.compress(content.encode()) if suffix.endswith(".gz") else content.encode())
    assert is_record_file(path)
    assert values(path) == rows
    unit, first = ("row", 1) if kind == ".parquet" else ("line", 2 if kind in (".csv", ".tsv") else 1)
    assert [record.place for record in read_records(path)] == [f"{path}, {unit} {first + i}" for i in range(3)]


def test_record_file_names() -> None:
    assert not any(is_record_file(Path(name)) for name in ("a.txt", "csv", "a.csv.zip", "a.parquet.gz", "a.gz"))


def test_quoted_fields_of_several_lines_and_where_rows_begin(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufefftext , label\r\n"one\r\ntwo, ""three""",x\r\n\r\ny,z\r\n')
    assert list(read_records(path)) == [
        Record(f"{path}, line 2", {"text": 'one\ntwo, "three"', "label": "x"}),
        Record(f"{path}, line 5", {"text": "y", "label": "z"}),
    ]


def test_quote_marks_mean_nothing_in_tsv(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'sentence\tlabel\n"unbalanced\t0\n\nit \'s , "fine" \t1\n')
    assert values(path) == [{"sentence": '"unbalanced', "label": "0"}, {"sentence": 'it \'s , "fine" ', "label": "1"}]


def test_columns_name_those_of_a_file_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "ag_news.csv", '"3","Wall St.","Short-sellers, again"\n')
    row = {"class": "3", "title": "Wall St.", "description": "Short-sellers, again"}
    assert list(read_records(path, ["class", "title", "description"])) == [Record(f"{path}, line 1", row)]


def test_header_without_rows_is_no_error(tmp_path: Path) -> None:
    for name, content in (("a.csv", "text,label\n"), ("a.tsv", "text\n"), ("a.json", " [ ]\n")):
        assert values(write(tmp_path / name, content)) == []


def test_long_fields_pass_up_to_the_limit(tmp_path: Path) -> None:
    text = "ä" * MAX_CHARACTERS
    assert values(write(tmp_path / "a.csv", f"text\n{text}\n")) == [{"text": text}]
    assert values(write(tmp_path / "a.tsv", f"text\r\n{text}\r\n")) == [{"text": text}]
    shorter = {"text": text[: MAX_CHARACTERS - len('{"text":""}')]}
    line = json.dumps(shorter, ensure_ascii=False, separators=(",", ":"))
    assert len(line) == MAX_CHARACTERS
    assert values(write(tmp_path / "a.jsonl", line)) == [shorter]
    assert values(write(tmp_path / "a.json", f"[{line},{line}]")) == [shorter, shorter]


def test_lines_of_an_open_file() -> None:
    file = io.BytesIO("\ufeffone\r\n\n tw\ro \r\r\nthree".encode())
    assert list(read_lines(file, "standard input")) == [(1, "one"), (2, ""), (3, " tw\ro \r"), (4, "three")]
    assert list(read_lines(io.BytesIO(), "x")) == []


def test_a_line_comes_before_the_next_is_written() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reader, open(write_end, "wb", buffering=0) as writer:
        lines = read_lines(reader, "standard input")
        for number, line in enumerate(("one", "two"), start=1):
            writer.write(f"{line}\n".encode())
            assert next(lines) == (number, line)


# Bounded memory


@pytest.mark.parametrize("content", [b"a", "😀".encode()])
def test_of_an_endless_line_only_a_part_is_read(content: bytes) -> None:
    endless = Endless(content)
    with pytest.raises(InputError, match="endless, line 1 has more than 1,000,000 characters"):
        next(read_lines(io.BufferedReader(endless), "endless"))
    assert endless.given < 5_000_000


def peak(records: Iterator[Record]) -> int:
    """The most bytes in use while the records are read, or until they are refused."""
    tracemalloc.start()
    try:
        for _ in records:
            pass
    except InputError:
        pass
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz", "a.jsonl.gz"])
def test_gzip_bomb(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"text")
        for _ in range(60):
            file.write(bytes([97]) * 1_000_000)
    assert "line 1" in refused(path)
    assert "more than 1,000,000 characters" in refused(path)
    assert peak(read_records(path)) < 25_000_000


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_long_file_takes_no_more_memory_than_a_short_one(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    row = "word " * 100
    with path.open("w") as file:
        file.write("text\n" if name == "a.csv" else "")
        line = row if name == "a.csv" else json.dumps({"text": row})
        file.writelines(itertools.repeat(f"{line}\n", 10_000))
    assert path.stat().st_size > 5_000_000
    assert peak(read_records(path)) < 1_000_000


# What can be wrong


def test_no_such_file(tmp_path: Path) -> None:
    # At once, not when the first row is asked for.
    for path, fault in (
        (tmp_path / "none.csv", "none.csv: no such file"),
        (tmp_path, "is a folder: expected a file ending in .csv, .tsv"),
        (write(tmp_path / "a.txt", "x"), "a.txt has an unknown ending: expected one of .csv, .tsv"),
    ):
        with pytest.raises(InputError, match=fault):
            read_records(path)


@pytest.mark.parametrize("suffix", RECORD_SUFFIXES)
def test_empty_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    assert refused(path).startswith(f"{path} is empty")
    if suffix != ".parquet":
        assert refused(write(path, "\n\n")).startswith(f"{path} is empty")
        assert refused(write(path, "")).startswith(f"{path} is empty")


def test_columns_of_a_file_that_names_its_own(tmp_path: Path) -> None:
    for name in ("a.json", "a.jsonl.gz", "a.parquet"):
        assert "--columns is for CSV and TSV" in refused(write(tmp_path / name, "{}"), ["text"])


def test_column_names_that_are_not_different(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label, text\nx,y,z\n")
    assert f"the header of {path} has 'text' more than once (text, label, text)" in refused(path)
    assert "--columns has 'a' more than once" in refused(path, ["a", "a", "b"])
    assert "--columns is empty" in refused(path, [])
    table = pyarrow.table([[1], [2]], names=["x", "x"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert "the schema of" in refused(tmp_path / "a.parquet")
    long = write(tmp_path / "b.csv", ("word " * 50 + ",") * 2 + "x\n")
    assert len(refused(long)) < 400


def test_row_with_another_number_of_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\n"a\nb",c\nfine, they said,pos\n')
    assert f"{path}, line 4 has 3 fields and the header 2 (text, label)" in refused(path)
    path = write(tmp_path / "a.tsv", "text\tlabel\nx\ty\nz\n")
    assert f"{path}, line 3 has 1 fields and the header 2 (text, label)" in refused(path)
    assert f"{path}, line 1 has 2 fields and --columns 3 (a, b, c)" in refused(path, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("row", "fault"),
    [('"a"b,c', "expected after"), ('"a\nb,c\nd,e\n', "unexpected end of data"), ("a\rb,c", "new")],
)
def test_malformed_csv(row: str, fault: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"text,label\nx,y\n{row}\n")
    message = refused(path)
    assert message.startswith(f"{path}, line 3: malformed CSV (")
    assert fault in message


@pytest.mark.usefixtures("small_limit")
def test_quote_mark_left_open_over_many_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\nx,y\n"open,y\n' + "some,more\n" * 20)
    assert f"{path}, line 3 has more than 100 characters" in refused(path)
    assert "is a quote mark left open there?" in refused(path)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".csv.gz"])
def test_long_line(suffix: str, tmp_path: Path) -> None:
    start = '{"text": "x"}\n{"text": "' if suffix == ".jsonl" else "text\n"
    path = write(tmp_path / f"a{suffix}", start + "x" * 101)
    assert f"{path}, line 2 has more than 100 characters" in refused(path)


def test_long_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = json.dumps({"text": "x" * 80})
    path = write(tmp_path / "a.json", f"[{item},\n{item}]")
    monkeypatch.setattr("zoo.data.json_records.MAX_ARRAY_BYTES", path.stat().st_size)
    assert len(values(path)) == 2
    monkeypatch.setattr("zoo.data.json_records.MAX_ARRAY_BYTES", path.stat().st_size - 1)
    assert "expected at most that many, or JSON" in refused(path)


@pytest.mark.parametrize(
    ("content", "line", "column", "reason"),
    [
        ('{"a": 1}\n\n{"a": }\n', 3, 7, "Expecting value"),
        ('{"a": 1}\n{"a": "b}\n', 2, 7, "Unterminated string"),
        ('{"a": 1} {"a": 2}', 1, 10, "Extra data"),
        ("{'a': 1}", 1, 2, "Expecting property name"),
    ],
)
def test_malformed_json_line(content: str, line: int, column: int, reason: str, tmp_path: Path) -> None:
    for suffix in (".jsonl", ".ndjson", ".json"):
        path = write(tmp_path / f"a{suffix}", content)
        assert refused(path).startswith(f"{path}, line {line}, column {column}: malformed JSON ({reason}")


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        ('[{"a": 1},\n {"a": }]', 2, 8),
        ('[{"a": 1}\n {"a": 2}]', 2, 2),
        ('[{"a": 1}', 1, 10),
        ("[", 1, 2),
        ('[{"a": 1},\n\n{"a": "b', 3, 7),
        ('[]\n\n{"a": 1}', 3, 1),
        ('[{"a": 1}]]', 1, 11),
    ],
)
def test_malformed_json_array(content: str, line: int, column: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", content)
    assert refused(path).startswith(f"{path}, line {line:,}, column {column:,}: malformed JSON (")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_json_that_python_cannot_hold(content: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n' + content)
    assert refused(path).startswith(f"{path}, line 2: malformed JSON (")
    path = write(tmp_path / "a.json", '[{"a": 1},\n{"b": ' + content)
    assert refused(path).startswith(f"{path}: malformed JSON (")


def test_json_that_is_no_object(tmp_path: Path) -> None:
    for content in ("[1, 2]", '"text"', "null", "3"):
        path = write(tmp_path / "a.jsonl", '{"a": 1}\n' + content)
        assert refused(path).startswith(f"{path}, line 2 is no object: expected one a line")


def test_half_a_character(tmp_path: Path) -> None:
    assert values(write(tmp_path / "a.jsonl", r'{"a": "\ud83d\ude00"}')) == [{"a": "😀"}]
    for name, content in (("a.jsonl", '{{}}\n{{"a": "{}"}}'), ("a.json", '[{{}},\n{{"a": "{}"}}]')):
        place = "line 2" if name == "a.jsonl" else "object 2"
        assert place in refused(write(tmp_path / name, content.format(r"\uD83D")))
        assert "half a character" in refused(tmp_path / name)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".csv.gz"])
def test_bytes_that_are_no_text(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    start = b'{"a": "b"}\n{"a": "' if suffix == ".jsonl" else b"text\n"
    latin = refused(write(path, start + "Straße".encode("latin1") + b'"}'))
    assert latin.startswith(f"{path}, line 2 is not UTF-8 (byte 0xdf)")
    assert "iconv" in latin
    assert refused(write(path, start + b"x\0y")).startswith(f"{path}, line 2 has a NUL byte")
    assert "is UTF-16" in refused(write(path, "text".encode("utf-16")))


def test_an_array_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert "is not UTF-8 (byte 0xdf)" in refused(write(path, '[{"a": "Straße"}]'.encode("latin1")))
    assert "has a NUL byte" in refused(write(path, b'[{"a": "\0"}]'))
    assert values(write(path, "\ufeff" + '[{"a": "ä"}]')) == [{"a": "ä"}]


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl.gz", ".json.gz"])
def test_damaged_gzip(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    generator = random.Random(0)  # or the damage would at times make a wrong line before it is found
    rows = [json.dumps({"text": generator.randbytes(20).hex()}) for _ in range(5000)]
    content = gzip.compress(("[" + ",\n".join(rows) + "]" if suffix == ".json.gz" else "\n".join(rows)).encode())
    path.write_bytes(content[: len(content) // 2])
    assert "it ends too early" in refused(path)
    assert f"{path}, line 1," not in refused(path)
    path.write_bytes(content[:1000] + bytes(20) + content[1020:])
    assert "damaged, or no gzip file" in refused(path)
    path.write_bytes(b"text,label\n")
    assert "line 1: damaged, or no gzip file (Not a gzipped file" in refused(path)


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"text": os.urandom(20).hex()} for _ in range(5000)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"text,label\n", content[:100] + bytes(50_000) + content[50_100:]):
        path.write_bytes(damaged)
        assert refused(path).startswith(f"{path} cannot be read as Parquet (")


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^standard input cannot be read \(Is a directory\)"):
        next(read_lines(FailsToRead(), "standard input"))

    def refuse(self: Path, mode: str) -> BinaryIO:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "a.csv", "text\n")
    monkeypatch.setattr(Path, "open", refuse)
    assert f"{path} cannot be read (Permission denied)" in refused(path)


class FailsToRead(io.BytesIO):
    def readline(self, size: int | None = -1) -> bytes:
        raise IsADirectoryError(21, "Is a directory")


def test_parquet_with_a_row_group_that_fills_the_memory_is_refused() -> None:
    groups = [SimpleNamespace(total_byte_size=size) for size in (1, 2**30 + 1)]
    metadata = SimpleNamespace(num_row_groups=2, row_group=groups.__getitem__)
    with pytest.raises(InputError, match=r"a\.parquet has a row group of 1,073,741,825 bytes"):
        records._batch_rows(Path("a.parquet"), metadata)  # type: ignore[arg-type]
    groups[1].total_byte_size = 2**30
    assert records._batch_rows(Path("a.parquet"), metadata) == 1  # type: ignore[arg-type]
    assert records._batch_rows(Path("a.parquet"), SimpleNamespace(num_row_groups=0)) == 1000  # type: ignore[arg-type]
