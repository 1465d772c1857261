"""Words of captions: examples of the Penn Treebank's rules, and what holds of every caption."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zoo.data.caption_text import plain_words


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A black dog runs .", "a black dog runs"),
        ("  A man's T-shirt,\tred/white!\n", "a man 's t-shirt red white"),
        ('A boy \'s "toy" (new)', "a boy 's toy new"),
        ("They don’t stop; it isn't late", "they do n't stop it is n't late"),
        ("The dogs' bowls -- 'big' ones -", "the dogs bowls big ones"),
        ("we're I've she'll he'd I'm", "we 're i 've she 'll he 'd i 'm"),
        ("Ein Mädchen läuft über Straßen.", "ein mädchen läuft über straßen"),
        ("एक कुत्ता दौड़ रहा है।", "एक कुत्ता दौड़ रहा है"),  # vowel signs are marks, not letters
        ("l'homme, o'clock", "l'homme o'clock"),
        ("3 dogs_and 2.5 cats", "3 dogs and 2 5 cats"),
        ("...", ""),
        ("", ""),
    ],
)
def test_words(caption: str, words: str) -> None:
    assert plain_words(caption) == words


@given(st.text() | st.text("ants'’-. \n'S", max_size=12))
@example("'s'")
@example("don'tn't")
@example("a-'s")
@example("İ'm")
def test_words_of_words_are_the_same(caption: str) -> None:
    words = plain_words(caption)
    assert plain_words(words) == words
    assert words == " ".join(words.split())
    assert not set(words) & set('.,;:!?"()_\n\t')
