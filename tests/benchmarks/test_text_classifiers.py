import pytest

from benchmarks.text_classifiers import hold_out_sentences
from zoo.data.labelled_texts import LabelledTexts
from zoo.errors import InputError

SENTENCES = [
    "a film that is as dull as it is long",
    "this one is far better than the one before it",
    "nobody will ever need to see any of that again",
]
PHRASES = [
    "that is as dull as it is",
    "far better than the one before it",
    "see any of that again",
    "any of that",
    "it is",
    "a better film than this one is",
]


@pytest.mark.parametrize("seed", range(5))
def test_sentences_are_held_out_with_their_phrases(seed: int) -> None:
    texts = PHRASES + SENTENCES
    known = LabelledTexts(texts, [(str(n),) for n in range(len(texts))])
    training, held_out = hold_out_sentences(known, 1, seed)
    (sentence,) = held_out.texts
    assert sentence in SENTENCES
    parts = [text for text in PHRASES if f" {text} " in f" {sentence} " and len(text.split()) > 3]
    assert len(parts) == 1
    assert training.texts == [text for text in texts if text not in (sentence, *parts)]
    for split in (training, held_out):
        assert split.labels == [(str(texts.index(text)),) for text in split.texts]


def test_fewer_sentences_than_are_to_be_held_out() -> None:
    with pytest.raises(InputError, match="sst2 has 3 sentences of 8 words or more, but 4 are to be held out"):
        hold_out_sentences(LabelledTexts(SENTENCES, [("0",)] * 3), 4, 0)
