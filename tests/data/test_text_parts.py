import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.text_parts import cut_text


def words(text):
    """Pieces as a word tokenizer makes them: a blank belongs to the word behind it."""
    return [piece if n == 0 else f" {piece}" for n, piece in enumerate(text.split(" "))]


@pytest.mark.parametrize(
    ("pieces", "longest", "parts"),
    [
        (words("one two. three four five"), 4, ["one two.", "three four five"]),
        (words("one two three, four five six"), 4, ["one two three,", "four five six"]),
        (words("one two three four five"), 3, ["one two three", "four five"]),
        (words("one two three"), 3, ["one two three"]),
        # The end of a sentence is better than that of a later clause.
        (words("one two. three, four five"), 3, ["one two.", "three, four five"]),
        # A closing mark stays with its sentence, also in a piece of its own.
        (["“", "yes", ".", "”", " ", "then", " ", "no"], 5, ["“yes.”", "then no"]),
        # Neither a decimal point nor a comma in a number ends anything.
        (list("is 3.14 it"), 7, ["is 3.14", "it"]),
        (["1", ",", "000", ",", "000", " is", " much"], 6, ["1,000,000 is", "much"]),
        # Pieces within words: not in the middle of one, if it can be.
        ([" light", "house", " keep", "er", " sat"], 3, ["lighthouse", "keeper sat"]),
        (list("猫が好き。犬も好き。"), 7, ["猫が好き。", "犬も好き。"]),
        (["one", "\n", "two", " three"], 3, ["one", "two three"]),
        (list("abcdefgh"), 3, ["abc", "def", "gh"]),
        ([" ", " ", "a"], 1, ["a"]),
        ([], 3, []),
        ([" ", " "], 5, []),
    ],
)
def test_where_texts_are_cut(pieces, longest, parts):
    assert cut_text(pieces, longest) == parts


@given(st.lists(st.text(" a.,。1\n", min_size=1, max_size=3), max_size=40), st.integers(1, 9))
def test_parts_are_short_enough_and_have_all_of_the_text(pieces, longest):
    parts = cut_text(pieces, longest)
    assert "".join("".join(parts).split()) == "".join("".join(pieces).split())
    assert all(part == part.strip() != "" for part in parts)
    if all(len(piece) == 1 for piece in pieces):
        assert all(len(part) <= longest for part in parts)


def test_no_length_is_refused():
    with pytest.raises(ValueError, match="longest is 0"):
        cut_text(["a"], 0)
