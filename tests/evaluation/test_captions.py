"""The figures of captions: against sacreBLEU, by hand, and by what must hold for any captions."""

import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sacrebleu import BLEU, CHRF

from zoo.evaluation.captions import ScoredCaption, caption_figures, signatures, worst_captions
from zoo.evaluation.cider import cider_d, cider_d_scores

HYPOTHESES = ["a dog runs through the snow", "two children play on a beach", "a dog runs through the snow", "a rock"]
REFERENCES = [
    ["a brown dog runs through deep snow", "a dog is running in the snow"],
    ["two kids are playing on the beach", "children play in the sand on a beach", "two children play on a beach"],
    ["a cat sleeps"],
    ["a man climbs a rock", "a climber on a rock"],
]
NAMES = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "chrf", "cider_d"]
SHARES = ["distinct_captions", "seen_captions"]

CAPTIONS = st.lists(
    st.sampled_from(["a", "dog", "cat", "runs", "red", "don't", "ß", "日本", "&quot;"]), max_size=7
).map(" ".join)
IMAGES = st.lists(st.tuples(CAPTIONS, st.lists(CAPTIONS, min_size=1, max_size=3)), min_size=1, max_size=6)
Images = list[tuple[str, list[str]]]


def apart(images: Images) -> tuple[list[str], list[list[str]]]:
    return [hypothesis for hypothesis, _ in images], [references for _, references in images]


def test_figures_and_signatures_are_sacrebleus() -> None:
    figures, printed = caption_figures(HYPOTHESES, REFERENCES, []), signatures(REFERENCES)
    assert list(figures) == [*NAMES, *SHARES, "words_per_caption"]
    assert list(printed) == ["bleu", "chrf"]
    # As sacreBLEU takes references of unequal numbers.
    streams: list[list[Any]] = [
        [REFERENCES[0][0], REFERENCES[1][0], REFERENCES[2][0], REFERENCES[3][0]],
        [REFERENCES[0][1], REFERENCES[1][1], None, REFERENCES[3][1]],
        [None, REFERENCES[1][2], None, None],
    ]
    for order in (1, 2, 3, 4):
        metric = BLEU(max_ngram_order=order, tokenize="none")
        assert figures[f"bleu_{order}"] == pytest.approx(metric.corpus_score(HYPOTHESES, streams).score, abs=1e-9)
        assert 20 < figures[f"bleu_{order}"] < 90
        assert printed["bleu"] == str(metric.get_signature())
    chrf = CHRF()
    assert figures["chrf"] == chrf.corpus_score(HYPOTHESES, streams).score
    assert printed["chrf"] == str(chrf.get_signature())
    assert figures["cider_d"] == cider_d(HYPOTHESES, REFERENCES)


def test_signatures_name_the_number_of_references() -> None:
    assert "nrefs:var|" in signatures(REFERENCES)["bleu"]
    assert signatures([["a", "b"]] * 3)["bleu"].startswith("nrefs:2|case:mixed|eff:no|tok:none|smooth:exp|version:")
    assert signatures([["", "b", "c", "d", "e"]])["chrf"].startswith("nrefs:5|")


def test_bleu_by_hand() -> None:
    # 6 words to the nearer reference's 6; 6, 5, 4 and 3 n-grams, of which 5, 3, 2 and 1 are in one of the references.
    figures = caption_figures(["the cat sat on a mat"], [["the cat sat on the rug", "on a bed"]], [])
    precisions = [5 / 6, 4 / 5, 2 / 4, 1 / 3]
    for order in (1, 2, 3, 4):
        product = 1.0
        for precision in precisions[:order]:
            product *= precision
        assert figures[f"bleu_{order}"] == pytest.approx(100 * product ** (1 / order))


def test_shares_and_length_by_hand() -> None:
    training = ["a rock", "two  children play on a beach\n", "a rock on a rock", "a"]
    figures = caption_figures(HYPOTHESES, REFERENCES, iter(training))
    assert figures["distinct_captions"] == 3 / 4
    assert figures["seen_captions"] == 2 / 4
    assert figures["words_per_caption"] == (6 + 6 + 6 + 2) / 4
    # A caption that is said twice and was seen counts twice.
    assert caption_figures(HYPOTHESES, REFERENCES, {HYPOTHESES[0]})["seen_captions"] == 2 / 4
    assert caption_figures(HYPOTHESES, REFERENCES, [])["seen_captions"] == 0


@given(IMAGES)
@example([("", [""])])
def test_any_captions_have_figures_in_range_and_their_order_does_not_matter(images: Images) -> None:
    figures = caption_figures(*apart(images), ["a dog", ""])
    for name in NAMES:
        assert 0 <= figures[name] <= (10 + 1e-9 if name == "cider_d" else 100)
    assert 1 / len(images) <= figures["distinct_captions"] <= 1
    assert 0 <= figures["seen_captions"] <= 1
    random.Random(len(images)).shuffle(images)
    assert caption_figures(*apart(images), ["", "a dog"]) == pytest.approx(figures, abs=1e-9)
    for _, references in images:
        references.reverse()
    # Of references that are equally near, sacreBLEU's chrF counts the letters of the first.
    assert caption_figures(*apart(images), ["", "a dog"]) | {"chrf": 0} == pytest.approx(
        figures | {"chrf": 0}, abs=1e-9
    )


@given(st.lists(CAPTIONS, max_size=6))
def test_captions_that_are_a_reference_have_the_best_bleu_and_chrf(captions: list[str]) -> None:
    captions = [*captions, "four words will do"]
    figures = caption_figures(captions, [[caption, "another one"] for caption in captions], captions)
    best = dict.fromkeys(["bleu_1", "bleu_2", "bleu_3", "bleu_4", "chrf"], 100.0)
    assert {name: figures[name] for name in best} == pytest.approx(best)
    assert max(figures.values()) <= 100
    assert figures["seen_captions"] == 1


def test_bleu_of_an_order_has_nothing_to_say_where_no_caption_is_that_long() -> None:
    captions = ["a dog", "one red cat"]
    figures = caption_figures(captions, [[caption] for caption in captions], [])
    assert [figures[name] for name in NAMES] == pytest.approx([100, 100, 100, 0, 100, 10 * (2 / 4 + 3 / 4) / 2])
    nothing = caption_figures(["", ""], [["a dog"], ["a cat"]], [])
    assert [nothing[name] for name in NAMES] == [0] * 6
    assert nothing["words_per_caption"] == 0


def test_sacrebleu_is_imported_late_and_its_warnings_are_not_printed() -> None:
    # In a process of its own: pytest takes over logging, and this file has imported it.
    code = (
        "import sys; from zoo.evaluation.captions import *; early = 'sacrebleu' in sys.modules;"
        "texts = ['a dog .'] * 200; several = [[text] for text in texts];"
        "caption_figures(texts, several, texts); signatures(several); worst_captions(texts, several, 3);"
        "sys.exit(early)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == result.stderr == ""


def test_the_worst_come_first() -> None:
    scores = cider_d_scores(HYPOTHESES, REFERENCES)
    worst = worst_captions(HYPOTHESES, REFERENCES, 2)
    assert worst[0] == ScoredCaption(2, HYPOTHESES[2], REFERENCES[2], 0.0)
    assert worst[1] == ScoredCaption(3, HYPOTHESES[3], REFERENCES[3], scores[3])
    assert worst_captions(HYPOTHESES, REFERENCES, 0) == []


@given(IMAGES, st.integers(1, 8))
def test_the_worst_are_sorted_with_ties_in_order(images: Images, count: int) -> None:
    hypotheses, references = apart(images)
    scores = cider_d_scores(hypotheses, references)
    order = sorted(range(len(images)), key=lambda image: scores[image])
    expected = [ScoredCaption(image, *images[image], scores[image]) for image in order]
    assert worst_captions(hypotheses, references, count) == expected[:count]


def test_errors_say_what_was_given_and_expected() -> None:
    wrong: list[tuple[list[str], list[list[str]], str]] = [
        (["a"], [["a"], ["b"]], "there are 1 hypotheses and references of 2 images: expected as many"),
        (["a", "b"], [["a"]], "there are 2 hypotheses and references of 1 images"),
        ([], [], "there are no captions: expected"),
        (["a", "b"], [["a"], []], r"the references of image 1 are \[\]: expected a list of one text or more"),
    ]
    for hypotheses, references, message in wrong:
        with pytest.raises(ValueError, match=message):
            caption_figures(hypotheses, references, ["a"])
        with pytest.raises(ValueError, match=message):
            worst_captions(hypotheses, references, 1)
    with pytest.raises(ValueError, match="there are no captions"):
        signatures([])
    with pytest.raises(ValueError, match=r"the references of image 0 are \[\]"):
        signatures([[]])
