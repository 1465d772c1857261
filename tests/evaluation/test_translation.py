"""The figures of translations: against sacreBLEU's command line, by hand, and by what must hold for any texts."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sacrebleu import BLEU, CHRF

from zoo.evaluation.translation import ScoredTranslation, signatures, translation_figures, worst_translations

SOURCES = ["Ein Mann schläft.", "Zwei Hunde rennen im Schnee.", "Eine Frau liest.", "Kinder spielen Fußball 😀"]
HYPOTHESES = ["A man is asleep.", "two dogs run in the Snow .", "", "Children play football 😀"]
REFERENCES = ["A man is sleeping.", "Two dogs run in the snow.", "A woman is reading.", "Children play football 😀"]

# What a translator may print: words, blanks and punctuation of any script, and nothing at all.
TEXTS = st.text(st.sampled_from("aAbBéß .,'-\u00a0\t\n0&<日本😀\u0301م"), max_size=20)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8)


def command_line(folder: Path, *options: str) -> list[dict[str, str]]:
    """What `sacrebleu` itself says of the sentences above: an object a metric, with all digits."""
    for name, lines in (("hypotheses", HYPOTHESES), ("references", REFERENCES)):
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    files = [str(folder / "references"), "-i", str(folder / "hypotheses")]
    command = [sys.executable, "-m", "sacrebleu", *files, "--format", "json", "--width", "10", *options]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result if isinstance(result, list) else [result]


def test_figures_and_signatures_are_those_of_sacrebleus_command_line(tmp_path: Path) -> None:
    figures, printed = translation_figures(HYPOTHESES, REFERENCES), signatures()
    bleu, chrf = command_line(tmp_path, "-m", "bleu", "chrf")
    lowercased = command_line(tmp_path, "-m", "bleu", "-lc")[0]
    assert [bleu["name"], chrf["name"]] == ["BLEU", "chrF2"]
    for name, expected in (("bleu", bleu), ("bleu_lowercased", lowercased), ("chrf", chrf)):
        assert figures[name] == pytest.approx(float(expected["score"]), abs=1e-9)
        assert 10 < figures[name] < 90
        assert printed[name] == expected["signature"]
    assert figures["bleu"] < figures["bleu_lowercased"]
    assert figures["exact_match"] == 1 / 4
    assert list(figures) == ["bleu", "bleu_lowercased", "chrf", "exact_match"]
    assert list(printed) == ["bleu", "bleu_lowercased", "chrf"]


def test_bleu_by_hand() -> None:
    # 7 tokens to 8; of 7, 6, 5 and 4 n-grams 6, 4, 2 and 1 are right (the "." is a token of its own).
    figures = translation_figures(["the cat sat on a mat."], ["the cat sat on the old mat."])
    precisions = 6 / 7 * 4 / 6 * 2 / 5 * 1 / 4
    assert figures["bleu"] == pytest.approx(100 * 2.718281828459045 ** (1 - 8 / 7) * precisions**0.25)


def test_exact_match_counts_what_differs_in_blanks_only() -> None:
    pairs = [(" a  b\n", "a b"), ("a b", "a\u00a0b"), ("a b", "A b"), ("ab", "a b"), ("", " "), ("", "a")]
    hypotheses, references = map(list, zip(*pairs, strict=True))
    assert translation_figures(hypotheses, references)["exact_match"] == 3 / 6


@given(PAIRS)
@example([("", "")])
@example([("😀", "😀")])
def test_any_texts_have_figures_in_range_and_their_order_does_not_matter(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = map(list, zip(*pairs, strict=True))
    figures = translation_figures(hypotheses, references)
    for name, value in figures.items():
        assert 0 <= value <= (1 if name == "exact_match" else 100)
    assert figures["bleu"] == min(BLEU().corpus_score(hypotheses, [references]).score, 100)
    assert figures["chrf"] == CHRF().corpus_score(hypotheses, [references]).score
    random.Random(len(pairs)).shuffle(pairs)
    hypotheses, references = map(list, zip(*pairs, strict=True))
    assert translation_figures(hypotheses, references) == figures
    lowered = translation_figures([text.lower() for text in hypotheses], [text.lower() for text in references])
    assert lowered["bleu"] == figures["bleu_lowercased"]


@given(st.lists(TEXTS, max_size=8))
def test_perfect_output_has_the_best_figures(texts: list[str]) -> None:
    texts = [*texts, "Four words will do"]
    best = {"bleu": 100, "bleu_lowercased": 100, "chrf": 100, "exact_match": 1}
    assert translation_figures(texts, tuple(texts)) == pytest.approx(best)


def test_bleu_has_nothing_to_say_where_no_sentence_has_four_tokens() -> None:
    figures = translation_figures(["one", "forty two"], ["one", "forty two"])
    assert figures == {"bleu": 0, "bleu_lowercased": 0, "chrf": 100, "exact_match": 1}


def test_sacrebleus_warnings_are_not_printed() -> None:
    # In a process of its own: pytest takes over logging.
    code = (
        "from zoo.evaluation.translation import *; texts = ['This is tokenized .'] * 200;"
        "translation_figures(texts, texts); signatures(); worst_translations(texts, texts, texts, 3)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == result.stderr == ""


def test_importing_the_module_does_not_import_sacrebleu() -> None:
    code = "import sys, zoo.evaluation.translation; sys.exit('sacrebleu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_worst_come_first() -> None:
    worst = worst_translations(SOURCES, HYPOTHESES, REFERENCES, 3)
    assert [translation.source for translation in worst] == [SOURCES[2], SOURCES[0], SOURCES[1]]
    assert worst[0] == ScoredTranslation(SOURCES[2], "", REFERENCES[2], 0.0)
    for _, hypothesis, reference, chrf in worst:
        assert chrf == CHRF().sentence_score(hypothesis, [reference]).score
    everything = worst_translations(SOURCES, HYPOTHESES, REFERENCES, 100)
    assert everything[:3] == worst
    assert everything[3][1:] == (HYPOTHESES[3], REFERENCES[3], 100)
    assert worst_translations(SOURCES, HYPOTHESES, REFERENCES, 0) == []


@given(PAIRS, st.integers(1, 8))
def test_the_worst_are_sorted_with_ties_in_order(pairs: list[tuple[str, str]], count: int) -> None:
    hypotheses, references = map(list, zip(*pairs, strict=True))
    sources = list(map(str, range(len(pairs))))
    worst = worst_translations(sources, hypotheses, references, count)
    assert len(worst) == min(count, len(pairs))
    keys = [(translation.chrf, int(translation.source)) for translation in worst]
    assert keys == sorted(keys)
    left_out = {*sources} - {translation.source for translation in worst}
    assert all(
        CHRF().sentence_score(hypotheses[int(n)], [references[int(n)]]).score >= worst[-1].chrf for n in left_out
    )


def test_errors_say_what_was_given_and_expected() -> None:
    with pytest.raises(ValueError, match="there are 1 hypotheses, 2 references: expected"):
        translation_figures(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="there are 0 hypotheses, 2 references: expected"):
        translation_figures([], ["a", "b"])
    with pytest.raises(ValueError, match="there are no hypotheses, references: expected one or more"):
        translation_figures([], [])
    with pytest.raises(ValueError, match="there are 2 sources, 1 hypotheses, 1 references: expected"):
        worst_translations(["a", "b"], ["a"], ["a"], 1)
    with pytest.raises(ValueError, match="there are no sources, hypotheses, references"):
        worst_translations([], [], [], 1)
