"""Running text, lines, rows and captions in files that are damaged, or were never meant to be read."""

import gzip
import io
import json
import struct

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.conftest import Attack
from tests.fuzz.hostile import VALUES, as_json, changed, changed_json, json_file
from tests.fuzz.reading_process import Case

TEXTS = (
    b"One line.\nTwo lines.\r\nThree.\n" * 3,
    "\ufeffZo\u00eb \U0001f600 e\u0301\u2028\u0085 \u4e2d\u6587\n\n\n".encode() * 4,
    "Zo\u00eb \U0001f600\n".encode("utf-16") * 4,
    "Zo\u00eb\n".encode("latin-1") * 4,
    b"",
)
TABLES = {
    ".csv": (b'text,label\n"a, ""b""\nc",1\nd,2\n', b"file_name,caption\na.png,one\nb.png,two\n", b"en,fr\na,b\nc,d\n"),
    ".tsv": (b"text\tlabel\na b\t1\nc\t2\n", b'en\tfr\na\tb\n"c\td\n'),
    ".jsonl": (b'{"text": "a", "label": 1}\n{"text": "b", "label": ["x"]}\n', b'{"en": "a", "fr": "b"}\n' * 3),
    ".json": (b'[{"text": "a", "label": 1},\n {"text": "b", "label": 2}]', b'{"text": "a", "label": true}\n'),
}
COCO = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": "2", "file_name": "b.png"}],
    "annotations": [{"image_id": 1, "caption": "a cat"}, {"image_id": "2", "caption": "a dog"}],
}
CAPTIONS = {
    ".csv": (b'file_name,caption\na.png,one\n"b.png","two, ""three"""\n',),
    ".jsonl": (b'{"image": "a.png", "captions": ["a", "b"]}\n{"image": "b.png", "caption": "x"}\n',),
    ".txt": (b"a.png#0\tA cat .\na.png#1\tA  dog.\nb.png#0\tx\n", b'image,caption\na.png,a cat\nb.png,"two, three"\n'),
    ".token": (b"a.png#0\tA cat .\nb.png#12\tA dog.\n",),
}


def parquet(table: pyarrow.Table, **options: object) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, **options)
    return file.getvalue()


# Times and numbers that Python has no value for, and columns within columns.
ODD_COLUMNS = {
    "times": pyarrow.array([2**62, -(2**62), None], pyarrow.timestamp("us")),
    "days": pyarrow.array([2**31 - 1, -(2**31), 0], pyarrow.date32()),
    "spans": pyarrow.array([2**63 - 1, 0, 1], pyarrow.duration("us")),
    "hours": pyarrow.array([0, 1, 2**40], pyarrow.time64("us")),
    "zones": pyarrow.array([0, 1, 2], pyarrow.timestamp("s", tz="Nowhere/None")),
    "maps": pyarrow.array([[("a", 1)], [("a", 1), ("a", 2)], None], pyarrow.map_(pyarrow.string(), pyarrow.int8())),
    "structs": pyarrow.array([{"a": {"b": "c"}}, None, {"a": None}]),
    "lists": pyarrow.array([["a"], [], None]),
    "bytes": pyarrow.array([b"\xff", b"", None]),
    "not utf-8": pyarrow.Array.from_buffers(
        pyarrow.string(), 3, [None, pyarrow.py_buffer(struct.pack("<4i", 0, 2, 3, 4)), pyarrow.py_buffer(b"\xff\xfeab")]
    ),
}
PARQUET = (
    parquet(pyarrow.table({"text": ["a", "b", None], "label": [1, 2, 3]})),
    parquet(pyarrow.table({"en": ["a", "b"] * 20, "fr": ["c", "d"] * 20}), compression="zstd"),
    parquet(pyarrow.table({"file_name": ["a.png", "b.png"], "captions": [["a cat"], ["x", None]]}), compression="gzip"),
    *(parquet(pyarrow.table({"text": ["a", "b", "c"], name: column})) for name, column in ODD_COLUMNS.items()),
)


def in_file(name: str, contents: SearchStrategy[bytes], *arguments: str) -> SearchStrategy[Case]:
    return contents.map(lambda content: Case({name: content}, list(arguments)))


@st.composite
def gzipped(draw: st.DrawFn, contents: SearchStrategy[bytes]) -> bytes:
    whole = gzip.compress(draw(contents), mtime=0)
    return draw(st.just(whole) | changed(whole, whole + whole, most=2))


def table(suffix: str) -> SearchStrategy[bytes]:
    if suffix == ".json":
        return changed(*TABLES[suffix]) | changed_json(json.loads(TABLES[suffix][0])).map(as_json)
    return changed(*TABLES[suffix])


def test_text(attack: Attack) -> None:
    attack("text", in_file("a.txt", changed(*TEXTS)))


def test_lines(attack: Attack) -> None:
    attack("lines", in_file("a", changed(*TEXTS) | gzipped(changed(*TEXTS))))


@pytest.mark.parametrize("suffix", TABLES)
def test_records(attack: Attack, suffix: str) -> None:
    named = (
        st.sampled_from(((), ("text", "label"), ("a",), ("a", "a"), ("",)))
        if suffix in (".csv", ".tsv")
        else st.just(())
    )
    cases = named.flatmap(lambda columns: in_file(f"a{suffix}", table(suffix), *columns))
    attack("records", cases | in_file(f"a{suffix}.gz", gzipped(table(suffix))))


def test_records_of_parquet(attack: Attack) -> None:
    attack("records", in_file("a.parquet", changed(*PARQUET)))


@pytest.mark.parametrize("suffix", [*CAPTIONS, ".coco.json", ".parquet"])
def test_captions(attack: Attack, suffix: str) -> None:
    if suffix == ".coco.json":
        contents = json_file(COCO)
    else:
        contents = changed(*(PARQUET[2:3] if suffix == ".parquet" else CAPTIONS[suffix]))
    attack("captions", in_file(f"a{suffix}", contents), share=0.5)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json.gz"])
def test_labelled_texts(attack: Attack, suffix: str) -> None:
    rows = [{"text": f"text {number}", "label": number % 2} for number in range(8)]
    if suffix.startswith(".json"):
        lines = st.lists(changed_json(rows[0], most=2) | st.sampled_from(rows), min_size=3, max_size=9)
        contents = lines.map(lambda some: b"\n".join(map(as_json, some)))
    else:
        comma = "," if suffix == ".csv" else "\t"
        contents = changed(
            "\n".join([f"text{comma}label", *(comma.join(map(str, row.values())) for row in rows)]).encode()
        )
    contents = gzipped(contents) if suffix.endswith(".gz") else contents
    arguments = st.sampled_from(((f"a{suffix}",), (f"a{suffix}", "multi"), ("",)))
    attack("labelled_texts", arguments.flatmap(lambda some: in_file(f"a{suffix}", contents, *some)), share=0.5)


def test_parallel_texts(attack: Attack) -> None:
    sides = (b"one\ntwo\nthree\n", b"un\r\ndeux\ntrois\n", b"a\n\nb", b"\n\n\n")
    pair = st.tuples(changed(*sides, most=1), changed(*sides, most=1))
    files = pair.map(lambda both: Case({"train.en": both[0], "train.fr": both[1]}, ["train"]))
    folder = files.map(lambda case: Case(case.files, [""]))
    rows = in_file("a.tsv", changed(b"en\tfr\none\tun\ntwo\tdeux\nthree\ttrois\n"), "a.tsv")
    nested = changed_json({"translation": {"en": "one", "fr": "un"}})
    lines = st.lists(nested, min_size=2, max_size=5).map(lambda some: b"\n".join(map(as_json, some)))
    attack("parallel_texts", files | folder | rows | in_file("a.jsonl", lines, "a.jsonl"))


def test_given_texts(attack: Attack) -> None:
    typed = st.lists(
        st.text(st.characters(), max_size=20) | VALUES.filter(lambda value: isinstance(value, str)), max_size=4
    )
    attack("given_texts", st.builds(lambda content, some: Case({"a": content}, some), changed(*TEXTS), typed))
