"""CIDEr-D: against coco-caption's own code, by hand, and by what must hold for any captions."""

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zoo.evaluation.cider import cider_d, cider_d_scores

# Few different words, so that captions share n-grams; of all lengths, nothing at all among them.
CAPTIONS = st.lists(st.sampled_from(["a", "dog", "cat", "runs", "red"]), max_size=8).map(" ".join)
IMAGES = st.lists(st.tuples(CAPTIONS, st.lists(CAPTIONS, min_size=1, max_size=4)), min_size=1, max_size=6)
Images = list[tuple[str, list[str]]]


def scores(images: Images) -> list[float]:
    return cider_d_scores([hypothesis for hypothesis, _ in images], [references for _, references in images])


def test_the_numbers_are_those_of_coco_captions_code() -> None:
    # Recorded from pycocoevalcap 1.2 (Cider().compute_score, which is CIDEr-D), without its tokenizer.
    images = [
        ("a dog runs through the snow", ["a brown dog runs through deep snow", "a dog is running in the snow"]),
        (
            "two children play on a beach",
            [
                "two kids are playing on the beach",
                "children play in the sand on a beach",
                "two children play on a beach",
            ],
        ),
        (
            "a man in a red shirt climbs a rock",
            ["a man climbs a big rock", "a climber in a red shirt is on a rock face", "a rock climber"],
        ),
    ]
    assert scores(images) == pytest.approx([2.9179364272446495, 4.818901892808706, 2.153924262844268], abs=1e-12)
    hypotheses, references = zip(*images, strict=True)
    assert cider_d(hypotheses, references) == pytest.approx(3.2969208609658747, abs=1e-12)


def test_odd_captions_have_the_numbers_of_coco_captions_code_too() -> None:
    # Recorded from pycocoevalcap 1.2: a word too often, nothing, a word that every image has, one that none has.
    images = [
        ("dog dog dog dog", ["a dog", "the dog runs"]),
        ("", ["a cat sleeps here"]),
        ("a", ["a", "a bird"]),
        ("zebra", ["a horse stands", ""]),
        (
            "a cat sits on the mat and the dog sits on the mat and the cat",
            ["a cat sits on the mat", "the dog and the cat"],
        ),
    ]
    assert scores(images) == pytest.approx([0.4322796219458344, 0, 0, 0, 0.6880638304512978], abs=1e-12)


def test_a_published_value() -> None:
    # The example of the README of j-min/language-evaluation, which runs coco-caption: CIDEr 3.333333333333333.
    # By hand: "a" is in both images and weighs nothing, so i, am and boy are right, and "a boy" of three bigrams.
    assert cider_d(["i am a boy", "she is a girl"], [["am i a boy"], ["is she a girl"]]) == pytest.approx(10 / 3)


def test_by_hand() -> None:
    # "b" is in one image of two and weighs log 2, as does "b b"; "a" is in both. Of the first caption "b" is there
    # twice and may count once: 1 · 1 / (2 · 1) for unigrams, nothing for bigrams; the lengths differ by 1.
    first, second = scores([("b b", ["a b a"]), ("a c", ["a c", "a"])])
    assert first == pytest.approx(10 / 4 * math.exp(-1 / 72) * (1 * 1) / (2 * 1))
    # Of the two references the first has the unigram c and the bigram "a c", and the second nothing of weight.
    assert second == pytest.approx(10 / 4 * (1 + 1) / 2)


def test_words_too_many_by_hand() -> None:
    # All n-grams weigh the same. 6 words too many, and "a" seven times, of which one may count, "a a" five times, ...
    hypothesis, reference = "a b c d a a a a a a", "a b c d"
    cosines = [4 / math.sqrt(52 * 4), 3 / math.sqrt(29 * 3), 2 / math.sqrt(20 * 2), 1 / math.sqrt(13 * 1)]
    expected = 10 / 4 * math.exp(-(6**2) / (2 * 6**2)) * sum(cosines)
    assert scores([(hypothesis, [reference]), ("", ["other words"])]) == pytest.approx([expected, 0])


@given(st.lists(CAPTIONS, min_size=2, max_size=6), st.integers(1, 3))
@example(["a dog runs red", "a cat"], 2)
def test_a_caption_that_is_all_its_references_has_the_highest_score(captions: list[str], count: int) -> None:
    own = [" ".join(f"{word}{image}" for word in caption.split()) for image, caption in enumerate(captions)]
    highest = [10 * min(len(caption.split()), 4) / 4 for caption in own]
    assert scores([(caption, [caption] * count) for caption in own]) == pytest.approx(highest)


@given(IMAGES)
@example([("a", ["a"])])
def test_scores_are_in_range(images: Images) -> None:
    found = scores(images)
    assert len(found) == len(images)
    assert all(0 <= score <= 10 + 1e-9 for score in found)
    if len(images) == 1:
        assert found == [0]


@given(IMAGES, st.integers(0, 99))
def test_order_does_not_matter(images: Images, seed: int) -> None:
    expected, rng = scores(images), random.Random(seed)
    order = rng.sample(range(len(images)), len(images))
    shuffled = [(images[n][0], rng.sample(images[n][1], len(images[n][1]))) for n in order]
    assert scores(shuffled) == pytest.approx([expected[n] for n in order], abs=1e-12)


@given(IMAGES)
def test_only_words_and_their_order_count(images: Images) -> None:
    renamed = [
        (f"  {hypothesis.upper()}\n".replace(" ", "\t"), [text.upper() for text in texts])
        for hypothesis, texts in images
    ]
    assert scores(renamed) == scores(images)


@given(IMAGES)
def test_other_words_score_nothing(images: Images) -> None:
    assert scores([(hypothesis.upper(), texts) for hypothesis, texts in images]) == [0] * len(images)


@given(IMAGES)
def test_repeated_references_change_nothing(images: Images) -> None:
    assert scores([(hypothesis, texts * 2) for hypothesis, texts in images]) == pytest.approx(scores(images), abs=1e-12)


def test_errors_say_what_was_given_and_expected() -> None:
    with pytest.raises(ValueError, match="there are 1 hypotheses and references of 2 images: expected as many"):
        cider_d(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="there are no captions: expected"):
        cider_d([], [])
    with pytest.raises(ValueError, match=r"the references of image 1 are \[\]: expected a list of one text or more"):
        cider_d(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match="the references of image 0 are 'a dog': expected a list"):
        cider_d(["a"], ["a dog"])
