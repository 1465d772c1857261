"""Small files that unpack to gigabytes, and configurations that ask for more than there is: refused, in bounded memory.

The reading process fails a case that takes a gigabyte, or a minute.
"""

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from safetensors.torch import save

from tests.fuzz.reading_process import Case, ReadingProcess
from tests.fuzz.test_images import chunk
from zoo.one_to_many import ImageCaptioner, TextGenerator
from zoo.one_to_one import ImageClassifier
from zoo.pretrained import unshared_weights

Refused = Callable[[str, Case], str]


@pytest.fixture
def refused(process: ReadingProcess, tmp_path: Path) -> Refused:
    """`refused(reader, case)`: the message."""

    def run(reader: str, case: Case) -> str:
        for name, content in case.files.items():
            (tmp_path / "case" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "case" / name).write_bytes(content)
        ended = process.read(reader, tmp_path / "case", case)
        assert ended.startswith("refused: "), ended
        return ended

    return run


def gzip_of(block: bytes, times: int) -> bytes:
    """A gzip file of many equal members, quick to make."""
    return gzip.compress(block, mtime=0) * times


@pytest.mark.parametrize(
    ("name", "block", "match"),
    [
        ("a.csv.gz", bytes(2**24), "NUL"),
        ("a.csv.gz", b" " * 2**24, "more than 1,000,000 characters"),
        ("a.jsonl.gz", b"\n" * 2**24, "blank"),
        ("a.csv.gz", b"text,label\n" + b"%s,1\n" % (b"a" * 9999) * 2**11, "times as many bytes in it"),
        ("a.tsv.gz", b"text\tlabel\n" + b"%s\t1\n" % (b"a" * 9999) * 2**11, "times as many bytes in it"),
        ("a.jsonl.gz", b'{"text": "%s"}\n' % (b"a" * 9999) * 2**11, "times as many bytes in it"),
    ],
)
def test_gzip(refused: Refused, name: str, block: bytes, match: str) -> None:
    """10 MB and less that hold 10 GB."""
    assert match in refused("records", Case({name: gzip_of(block, 600)}))


def test_gzip_of_json_of_many_values(refused: Refused) -> None:
    content = gzip.compress(b"[" + b"{}," * 2**24, 1)
    assert "values" in refused("records", Case({"a.json.gz": content}))


def test_json_of_many_values(refused: Refused) -> None:
    content = b'{"images": [' + b"[]," * 2**22 + b'[]], "annotations": [' + b"{}," * 2**23 + b"{}]}"
    assert "values" in refused("captions", Case({"a.json": content}))


def png_of(width: int, height: int) -> bytes:
    row = zlib.compressobj(9)
    content = b"".join(row.compress(bytes(width // 8 + 1)) for _ in range(height)) + row.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", content), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_png_of_many_pixels(refused: Refused) -> None:
    content = png_of(30_000, 30_000)
    assert len(content) < 200_000
    assert "900,000,000" in refused("image", Case({"a.png": content})).replace("30,000 × 30,000", "900,000,000")


def test_png_with_a_long_text(refused: Refused) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    whole = file.getvalue()
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28)))
    assert "damaged" in refused("image", Case({"a.png": whole[:33] + text * 9 + whole[33:]}))


def parquet_of(array: pyarrow.Array, **options: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": array}), file, compression="zstd", **options)
    return file.getvalue()


@pytest.mark.parametrize("nested", [False, True])
def test_parquet_of_one_value_a_thousand_times(refused: Refused, nested: bool) -> None:
    values = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 4000, pyarrow.int32()), pyarrow.array(["x" * 2**24])
    )
    if nested:
        values = pyarrow.ListArray.from_arrays(pyarrow.array([0, 2000, 4000], pyarrow.int32()), values)
    content = parquet_of(values, dictionary_pagesize_limit=2**30)
    assert len(content) < 50_000
    assert "as they are unpacked" in refused("records", Case({"a.parquet": content}))


def files_of(model: Any, **changes: Any) -> dict[str, bytes]:
    config = {"architecture": type(model).__name__, **model.config, **changes}
    return {"config.json": json.dumps(config).encode(), "model.safetensors": save(unshared_weights(model))}


def generator() -> TextGenerator:
    return TextGenerator(vocab_size=5, embedding_size=3, hidden_size=4, ngram_order=2, ngram_buckets=9)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 10**9},
        {"hidden_size": 10**5},
        {"hidden_size": 10**30},
        {"vocab_size": 10**12},
        {"vocab_size": 10**9, "ngram_order": 8, "ngram_buckets": 10**12},
        {"embedding_size": 10**6},
        {"num_layers": 10**6},
        {"num_layers": 10**12},
        {"num_layers": 200},
        {"ngram_buckets": 10**10, "vocab_size": 10**6},
    ],
    ids=str,
)
def test_a_config_that_asks_for_more_than_its_weights_have(refused: Refused, change: dict[str, int]) -> None:
    assert "config" in refused("TextGenerator", Case(files_of(generator(), **change)))


def test_a_config_with_large_images(refused: Refused) -> None:
    classifier = ImageClassifier(labels=["a", "b"], image_size=16)
    assert "image_size is 100000" in refused("ImageClassifier", Case(files_of(classifier, image_size=10**5)))
    captioner = ImageCaptioner(vocab_size=5, image_size=16, embedding_size=4, hidden_size=8)
    assert "position" in refused("ImageCaptioner", Case(files_of(captioner, image_size=1000)))
    assert "max_length is" in refused("ImageCaptioner", Case(files_of(captioner, max_length=10**9)))


@pytest.mark.parametrize("size", [2**20, 2**40, 2**63])
def test_weights_that_say_they_are_large(refused: Refused, size: int) -> None:
    files = files_of(generator())
    header = json.dumps({"a": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}).encode()
    files["model.safetensors"] = struct.pack("<Q", len(header)) + header
    assert "not a whole safetensors file" in refused("TextGenerator", Case(files))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"[" * 10**5, b'{"a":' * 10**5, b" " * 2**27, b"\0" * 10**5], ids=len)
def test_json_that_is_deep_or_long(refused: Refused, name: str, content: bytes) -> None:
    assert name in refused("TextGenerator", Case(files_of(generator()) | {name: content}))


def test_options_that_are_said_many_times(refused: Refused) -> None:
    lines = [
        "out: &a [x,x,x,x,x,x,x,x,x]",
        *(f"l{n}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]" for n in range(12)),
    ]
    content = "\n".join([*lines, "seed: 0", "learning_rate: 0.1"]).encode()
    case = Case({"run/config.yaml": content, "run/resume.safetensors": b"x"})
    assert "is not a run folder" in refused("run_folder", case)
