"""How good translations are: BLEU, chrF and exact match by sacreBLEU, and the worst of them.

Everything here reads plain text as people would: detokenized, cased, and decoded without the reference's help.
"""

from collections.abc import Sequence
from heapq import nsmallest
from typing import NamedTuple

# sacrebleu is imported where it is used: whoever imports the other metrics does not wait for it.


class ScoredTranslation(NamedTuple):
    """A sentence, its translation and reference, and the translation's chrF, 0 to 100."""

    source: str
    hypothesis: str
    reference: str
    chrf: float


def translation_figures(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The figures of N translations, each with one reference.

    - `bleu`: corpus BLEU, 0 to 100, cased, with sacreBLEU's own tokenization (13a). It multiplies the precisions of
      1 to 4 tokens in a row: where no translation has four tokens it is 0, however good they are.
    - `bleu_lowercased`: the same without case, as papers on small data sets often report it.
    - `chrf`: corpus chrF2, 0 to 100, cased, blanks left out. It is the one to read for short sentences.
    - `exact_match`: the share, 0 to 1, of the translations that are their reference, any run of blanks being one
      blank and none at the ends.

    Args:
        hypotheses: N texts.
        references: N texts, in the same order.

    Raises:
        ValueError: there are none, or not as many of the one as of the other.
    """
    from sacrebleu import BLEU, CHRF

    _check_counts(hypotheses=hypotheses, references=references)
    matches = sum(a.split() == b.split() for a, b in zip(hypotheses, references, strict=True))
    # A perfect BLEU is 100.00000000000004. With `force` sacreBLEU does not warn of sentences that end in " .".
    return {
        "bleu": min(BLEU(force=True).corpus_score(hypotheses, [references]).score, 100.0),
        "bleu_lowercased": min(BLEU(lowercase=True, force=True).corpus_score(hypotheses, [references]).score, 100.0),
        "chrf": CHRF().corpus_score(hypotheses, [references]).score,
        "exact_match": matches / len(hypotheses),
    }


def signatures() -> dict[str, str]:
    """How `bleu`, `bleu_lowercased` and `chrf` are computed, as sacreBLEU's signatures: print them with the figures."""
    from sacrebleu import BLEU, CHRF

    # A signature depends on the settings and on the number of references, which a metric learns from any it is given.
    one = [[""]]
    metrics = {
        "bleu": BLEU(references=one),
        "bleu_lowercased": BLEU(lowercase=True, references=one),
        "chrf": CHRF(references=one),
    }
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


def worst_translations(
    sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], count: int
) -> list[ScoredTranslation]:
    """The translations with the lowest sentence chrF2, the lowest first and ties in order, at most `count` of them.

    Args:
        sources: N texts.
        hypotheses: N texts, in the same order.
        references: N texts, in the same order.
        count: how many, 0 or more.

    Raises:
        ValueError: there are none, or not as many of the one as of the other.
    """
    from sacrebleu import CHRF

    _check_counts(sources=sources, hypotheses=hypotheses, references=references)
    metric = CHRF()
    scored = (
        ScoredTranslation(source, hypothesis, reference, metric.sentence_score(hypothesis, [reference]).score)
        for source, hypothesis, reference in zip(sources, hypotheses, references, strict=True)
    )
    return nsmallest(count, scored, key=lambda translation: translation.chrf)


def _check_counts(**texts: Sequence[str]) -> None:
    counts = {name: len(some) for name, some in texts.items()}
    # sacreBLEU would leave out what has no partner.
    if len(set(counts.values())) > 1:
        given = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        raise ValueError(f"there are {given}: expected as many of each, in the same order")
    if 0 in counts.values():
        raise ValueError(f"there are no {', '.join(counts)}: expected one or more of each")
