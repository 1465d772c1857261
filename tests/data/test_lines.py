"""Chunks of what is read; `read_lines` is tested with the files in test_records.py."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data import lines
from zoo.data.lines import in_chunks
from zoo.errors import InputError


@given(st.integers(0, 20), st.integers(1, 6), st.booleans())
def test_chunks_have_every_item_before_a_faulty_one(count: int, size: int, faulty: bool) -> None:
    def items() -> Iterator[int]:
        yield from range(count)
        if faulty:
            raise InputError("the next is broken")

    chunks: list[list[int]] = []
    caught = False
    try:
        for chunk in in_chunks(items(), size):
            chunks.append(chunk)
    except InputError:
        caught = True
    assert caught == faulty
    assert [item for chunk in chunks for item in chunk] == list(range(count))
    assert all(len(chunk) == size for chunk in chunks[:-1])


def test_a_chunk_comes_before_the_next_item_is_asked_for() -> None:
    asked = []
    chunks = in_chunks((asked.append(n) or n for n in range(10)), 3)
    assert next(chunks) == [0, 1, 2]
    assert asked == [0, 1, 2]


def test_lines_without_anything_in_them_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_BLANK_LINES", 3)
    few = b"a\n" + b"\n" * 3 + b"b\n" + b" \r\n" * 3
    assert [line for _, line in lines.read_lines(io.BytesIO(few), "a.txt")] == ["a", "", "", "", "b", " ", " ", " "]
    with pytest.raises(InputError, match=r"a.txt, line 9: the 4 lines up to there are blank: expected text"):
        list(lines.read_lines(io.BytesIO(few + b"\n"), "a.txt"))
