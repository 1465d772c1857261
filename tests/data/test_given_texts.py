import io
import sys

import pytest

from zoo.data.given_texts import are_typed, given_texts
from zoo.errors import InputError


def test_texts_a_file_and_standard_input_give_places_and_texts(tmp_path, monkeypatch):
    assert list(given_texts(["one", "two"], None)) == [("text 1", "one"), ("text 2", "two")]
    file = tmp_path / "some.txt"
    file.write_bytes(b"one\r\ntwo")
    assert list(given_texts([], file)) == [(f"{file}, line 1", "one"), (f"{file}, line 2", "two")]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\n")))
    assert list(given_texts([], None)) == [("standard input, line 1", "one")]


def test_arguments_need_no_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # closed, as `script <&-` has it
    assert not are_typed(["one"], None)
    assert [text for _, text in given_texts(["one"], None)] == ["one"]
    with pytest.raises(InputError, match="standard input is closed"):
        given_texts([], None)


def test_both_and_a_missing_file_are_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="both given"):
        given_texts(["one"], tmp_path / "some.txt")
    with pytest.raises(InputError, match="cannot be read"):
        given_texts([], tmp_path / "none.txt")


def test_an_argument_that_cannot_be_written():
    # As a YAML file may spell it; bytes that are not UTF-8 come as other surrogates.
    found = list(given_texts(["a\ud800b", "\udcff"], None))
    assert [given.text for given in found] == ["a\ufffdb", "\ufffd"]
