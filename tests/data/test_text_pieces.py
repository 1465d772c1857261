"""Pieces of a long text: nothing is lost, cuts are where no token spans them, and memory is bounded."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.text_pieces import PIECE_CHARACTERS, text_groups, text_pieces

blocks = st.lists(st.text(st.sampled_from("ab7é中 \n\t.'"), max_size=30), max_size=20)


@given(blocks)
def test_joined_they_are_the_text(blocks: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.data.text_pieces.PIECE_CHARACTERS", 5)
        pieces = list(text_pieces(blocks))
    assert "".join(pieces) == "".join(blocks)
    assert all(len(piece) >= 4 for piece in pieces[:-1])
    for piece, after in itertools.pairwise(pieces):
        assert piece.endswith("\n") or (piece[-1].isalnum() and after.startswith(" "))


@pytest.mark.parametrize("line", ["a line of many words\n", "many words and no line "])
def test_they_are_short_and_made_one_at_a_time(line: str) -> None:
    read = []

    def reading() -> object:
        for _ in range(10):
            read.append(line * 1000)
            yield read[-1]

    pieces = text_pieces(reading())  # type: ignore[arg-type]
    assert PIECE_CHARACTERS <= len(next(pieces)) <= PIECE_CHARACTERS + len(line)
    assert len(read) == 1
    assert max(map(len, pieces)) <= PIECE_CHARACTERS + len(line)


def test_surrogates() -> None:
    assert list(text_pieces(["\ud83d\ude00 \ud800"])) == ["\U0001f600 \ufffd"]


def test_groups() -> None:
    assert list(text_groups("abcdefgh", 3)) == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]
    assert list(text_groups(["long", "a", "bc"], 3)) == [["long"], ["a", "bc"]]
    assert list(text_groups([], 3)) == []
