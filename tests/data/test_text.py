"""Where running text comes from, and one line of help for each thing that can be wrong with it."""

import os
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets import Dataset, DatasetDict

from zoo.data import load_text
from zoo.data.python_docs import paragraphs, python_docs
from zoo.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def refused(*arguments: Any, **options: Any) -> str:
    """The one-line message that load_text refuses with."""
    with pytest.raises(InputError) as caught:
        load_text(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


# Built in


def test_python_docs_are_large_and_split_by_topic() -> None:
    train, validation = python_docs()
    assert len(train) > 250_000
    assert 0.08 < len(validation) / (len(train) + len(validation)) <= 0.101
    corpus = load_text("python_docs")
    assert (corpus.name, corpus.train.read(), corpus.validation.read()) == ("python_docs", train, validation)
    assert len(load_text("python_docs", validation_fraction=0.3).validation.read()) > 2 * len(validation)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the figures in the docstring are for Python 3.11")
def test_python_docs_have_the_size_that_the_docstring_says() -> None:
    for text in python_docs():
        assert f"{len(text):,}" in (python_docs.__doc__ or "")


def test_no_paragraph_of_python_docs_is_there_twice() -> None:
    train, validation = python_docs()
    found = [" ".join(block.split()) for text in (train, validation) for block in paragraphs(text)]
    assert len(found) > 2000
    assert len(found) == len(set(found))


def test_paragraphs() -> None:
    assert paragraphs("\n  a\n b \n\n \n\t\n\nc\n") == ["  a\n b", "c"]


def test_in_a_process_of_its_own() -> None:
    # Another hash seed must give the same split, and a plain import must not bring the datasets library.
    program = (
        "import sys, zlib, zoo.data\n"
        "from zoo.data.python_docs import python_docs\n"
        "print('datasets' in sys.modules, zlib.crc32(python_docs()[1].encode()))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert ran.stdout.decode().split() == ["False", str(zlib.crc32(python_docs()[1].encode()))]


# Local text


def test_file_is_cut_as_nanogpt_does(tmp_path: Path) -> None:
    text = "".join(chr(97 + i % 26) for i in range(1003))
    file = write(tmp_path / "a.txt", text)
    corpus = load_text(file)
    assert corpus.train.read() == text[: int(1003 * 0.9)]
    assert corpus.validation.read() == text[int(1003 * 0.9) :]
    assert corpus.name == file
    assert len(load_text(file, validation_fraction=0.5).train.read()) == 501


def test_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    corpus = load_text(write(tmp_path / "a", b"\xef\xbb\xbfone\r\ntwo\rthree\r\n\xe4\xb8\xad"))
    assert corpus.train.read() + corpus.validation.read() == "one\ntwo\rthree\n中"


def test_folder_gives_each_text_file_in_sorted_order(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "bbbbbbbbbB")
    write(tmp_path / "a" / "z.md", "zzzzzzzz\n\n")
    write(tmp_path / "c.TXT", "")
    write(tmp_path / ".git" / "x.txt", "hidden")
    write(tmp_path / "picture.png", b"\0")
    corpus = load_text(str(tmp_path))
    assert corpus.train.read() == "zzzzzzzz\nbbbbbbbbb"
    assert corpus.validation.read() == "\nB"


def test_several_sources_and_own_validation(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.txt", "one"), write(tmp_path / "2.txt", "two\n")
    held_out = write(tmp_path / "3.txt", "three")
    corpus = load_text([one, two, one], validation_data=[held_out, two])
    assert corpus.train.read() == "one\ntwo\none"
    assert corpus.validation.read() == "three\ntwo\n"
    assert corpus.name == f"{one}+{two}+{one}"
    whole = load_text("python_docs", validation_data=held_out)
    assert len(whole.train.read()) >= sum(map(len, python_docs()))
    assert whole.validation.read() == "three"


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.txt", "0123456789")
    assert load_text("~/a.txt").validation.read() == "9"


@pytest.mark.parametrize("name", ["nothing.txt", "./nothing", "~/nothing", "/no/such/place", "a/b/c", "x.jsonl"])
def test_missing_file(name: str) -> None:
    assert refused(name).startswith(f"{name}: no such file")


def test_unusable_files(tmp_path: Path) -> None:
    assert "is empty" in refused(write(tmp_path / "empty.txt", ""))
    assert "is empty" in refused(write(tmp_path / "blank.txt", " \n\n"))
    assert "offset 3)" in refused(write(tmp_path / "binary.txt", b"abc\0def"))
    latin = refused(write(tmp_path / "latin.txt", "Straße".encode("latin1")))
    assert "byte 0xdf at offset 4)" in latin
    assert "iconv" in latin
    assert "latin.txt" in latin
    marked = refused(write(tmp_path / "marked.txt", b"\xef\xbb\xbfa\xff"))
    assert "byte 0xff at offset 4)" in marked
    assert "UTF-16" in refused(write(tmp_path / "wide.txt", "text".encode("utf-16")))
    assert "no validation text" in refused(write(tmp_path / "short.txt", "abc   "), validation_fraction=0.5)


def test_folder_without_text(tmp_path: Path) -> None:
    assert "no text file" in refused(str(tmp_path))
    write(tmp_path / "a.txt", "\n")
    assert "is empty" in refused(str(tmp_path))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.51, 1.0, float("nan")])
def test_validation_fraction_out_of_range(fraction: float) -> None:
    assert "validation_fraction is" in refused("python_docs", validation_fraction=fraction)


@pytest.mark.parametrize("data", ["", [], ["python_docs", ""]])
def test_no_source(data: str | list[str]) -> None:
    assert "source is empty" in refused(data)


# Rows


@pytest.mark.parametrize("kind", ["parquet", "json", "csv"])
def test_rows_of_a_local_file(kind: str, tmp_path: Path) -> None:
    rows = Dataset.from_dict({"body": [f"row {i}" for i in range(10)], "label": list(range(10))})
    file = str(tmp_path / f"rows.{'jsonl' if kind == 'json' else kind}")
    getattr(rows, f"to_{kind}")(file)
    corpus = load_text(file, text_column="body")
    assert corpus.train.read() == "\n".join(f"row {i}" for i in range(9))
    assert corpus.validation.read() == "row 9"
    whole = load_text(file, text_column="body", validation_data=file)
    assert whole.train.read() == whole.validation.read() == "\n".join(f"row {i}" for i in range(10))
    assert "no column 'text': its columns are body, label" in refused(file)
    assert "holds int" in refused(file, text_column="label")


def test_missing_values_and_carriage_returns_in_rows(tmp_path: Path) -> None:
    file = str(tmp_path / "rows.parquet")
    Dataset.from_dict({"text": ["a\r\n", None, "", "b"]}).to_parquet(file)
    corpus = load_text(file, validation_fraction=0.4)
    assert (corpus.train.read(), corpus.validation.read()) == ("a\n", "\nb")
    Dataset.from_dict({"text": ["0123456789"]}).to_parquet(file)
    assert load_text(file).validation.read() == "9"
    Dataset.from_dict({"text": ["", " "]}).to_parquet(file)
    assert "is empty" in refused(file)


def test_folder_of_rows_with_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        Dataset.from_dict({"text": [split, "x"]}).to_json(str(tmp_path / f"{split}.jsonl"))
    write(tmp_path / "README.md", "# The card of the data set")
    corpus = load_text(str(tmp_path))
    assert (corpus.train.read(), corpus.validation.read()) == ("train\nx", "test\nx")
    assert load_text(str(tmp_path), validation_data=str(tmp_path)).validation.read() == "test\nx"
    write(tmp_path / "notes.txt", "0123456789")
    assert "notes" not in load_text(str(tmp_path)).train.read()
    assert "9" in load_text(str(tmp_path)).validation.read()


@pytest.mark.parametrize("called", ["val", "Valid", "dev"])
def test_the_validation_split_in_any_spelling(called: str, tmp_path: Path) -> None:
    splits = {name: Dataset.from_dict({"text": [name, "b"]}) for name in ("Train", called, "test")}
    DatasetDict(splits).save_to_disk(tmp_path / "set")
    corpus = load_text(str(tmp_path / "set"))
    assert (corpus.train.read(), corpus.validation.read()) == ("Train\nb", f"{called}\nb")


@pytest.mark.parametrize("name", ["Valid.jsonl", "Test/a.jsonl"])
def test_a_folder_of_rows_whose_splits_would_not_be_known(name: str, tmp_path: Path) -> None:
    for path in ("train.jsonl", name):
        write(tmp_path / path, '{"text": "a"}')
    assert f"{tmp_path}/{name} is called as a split is, but in upper case" in refused(str(tmp_path))


def test_saved_data_set(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"text": [str(i) for i in range(10)]})
    rows.save_to_disk(tmp_path / "plain")
    assert load_text(str(tmp_path / "plain")).validation.read() == "9"
    DatasetDict(train=rows, validation=rows, test=rows.select([0])).save_to_disk(tmp_path / "splits")
    assert load_text(str(tmp_path / "splits")).validation.read().startswith("0\n1\n")


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_broken_rows(suffix: str, tmp_path: Path) -> None:
    assert "cannot be loaded" in refused(write(tmp_path / f"broken{suffix}", b'{"text": \xff\xfe\0'))


# The hub


def test_hub_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*arguments: str | None) -> DatasetDict:
        asked.append(arguments)
        rows = Dataset.from_dict({"text": ["one", "two\n"]})
        return DatasetDict(train=rows, test=rows.select([0]))

    class Found:
        id = "owner/name"

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, timeout: Found)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_text("owner/name:raw-v1").train.read() == "one\ntwo\n"
    assert load_text("name").validation.read() == "one"
    assert asked == [("owner/name", "raw-v1"), ("owner/name", None)]


@pytest.mark.parametrize("name", ["owner/name", "name", "text", "owner/name:configuration"])
def test_hub_out_of_reach_is_known_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens on port 1, so the real client gets a real refusal.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    start = time.monotonic()
    message = refused(name)
    assert time.monotonic() - start < 5
    assert "could not be reached" in message
    assert "to --data" in message
    assert not datasets.config.HF_HUB_OFFLINE


def test_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "could not be reached" in refused("owner/name")


def test_hub_has_no_such_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        message = refused("owner/nothing")
        server.shutdown()
    assert "no such data set" in message
    assert "to --data" in message


def test_name_that_no_hub_set_can_have() -> None:
    assert "no hub data set's name" in refused("what is this")


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(InputError, match="/dev/zero is a device: expected a text file"):
        load_text("/dev/zero")
