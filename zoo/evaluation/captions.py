"""How good captions are: BLEU and chrF by sacreBLEU, CIDEr-D, how varied and how new they are, and the worst of them.

Everything here reads captions in the plain form that the field compares: lower-cased words between blanks, without
punctuation, decoded without the references' help.
"""

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from itertools import zip_longest
from typing import NamedTuple

from zoo.evaluation.cider import check_references, cider_d_scores

# sacrebleu is imported where it is used: whoever imports the other metrics does not wait for it.


class ScoredCaption(NamedTuple):
    """A caption of image number `image` (from 0), that image's references, and the caption's CIDEr-D, 0 to 10."""

    image: int
    hypothesis: str
    references: Sequence[str]
    cider_d: float


def caption_figures(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], training_captions: Iterable[str]
) -> dict[str, float]:
    """The figures of the captions of N images, each with one or more references, of which all count.

    - `bleu_1` … `bleu_4`: corpus BLEU, 0 to 100, of n-grams of up to 1 … 4 words; the words are those between blanks.
      `bleu_n` multiplies n precisions: where no caption has n words it is 0, however good they are.
    - `chrf`: corpus chrF2, 0 to 100, blanks left out, to the nearest of the references.
    - `cider_d`: 0 to 10, as coco-caption prints it; papers often give 100 times that. Of one image alone it is 0.
    - `distinct_captions`: how many different captions there are, as a share of N, 0 to 1.
    - `seen_captions`: the share, 0 to 1, of the captions that are word for word a training caption.
    - `words_per_caption`: their mean length.

    Args:
        hypotheses: N texts.
        references: N lists of one or more texts, in the same order; they need not be equally many.
        training_captions: all texts of the training images, or nothing: then no caption was seen.

    Raises:
        ValueError: there are none, or not as many of the one as of the other, or an image has no reference.
    """
    from sacrebleu import BLEU, CHRF

    scores = cider_d_scores(hypotheses, references)
    streams = _streams(references)
    bleu = BLEU(tokenize="none", force=True)
    counted = bleu.corpus_score(hypotheses, streams)
    figures = {}
    for order in range(1, bleu.max_ngram_order + 1):
        # What was counted for BLEU-4 holds the counts of the shorter ones: one pass over the texts instead of four.
        score = bleu.compute_bleu(
            counted.counts[:order],
            counted.totals[:order],
            counted.sys_len,
            counted.ref_len,
            smooth_method=bleu.smooth_method,
            max_ngram_order=order,
        ).score
        figures[f"bleu_{order}"] = min(score, 100.0)  # a perfect one is 100.00000000000004

    captions = [tuple(text.split()) for text in hypotheses]
    seen = {tuple(text.split()) for text in training_captions}.intersection(captions)
    return figures | {
        "chrf": CHRF().corpus_score(hypotheses, streams).score,
        "cider_d": sum(scores) / len(scores),
        "distinct_captions": len(set(captions)) / len(captions),
        "seen_captions": sum(caption in seen for caption in captions) / len(captions),
        "words_per_caption": sum(map(len, captions)) / len(captions),
    }


def signatures(references: Sequence[Sequence[str]]) -> dict[str, str]:
    """How `bleu` (of each order: the signature does not tell them apart) and `chrf` are computed, by sacreBLEU.

    Print them with the figures. They say how many references an image has, "var" if not all have as many.

    Raises:
        ValueError: there are no images, or an image has no reference.
    """
    from sacrebleu import BLEU, CHRF

    check_references(references)
    # A signature depends on the settings and on the numbers of references, not on what these say.
    counts = sorted({len(captions) for captions in references})
    streams = _streams([[""] * count for count in counts])
    metrics = {"bleu": BLEU(tokenize="none", references=streams), "chrf": CHRF(references=streams)}
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


def worst_captions(hypotheses: Sequence[str], references: Sequence[Sequence[str]], count: int) -> list[ScoredCaption]:
    """The captions with the lowest CIDEr-D, the lowest first and ties in order, at most `count` of them.

    Args:
        hypotheses: N texts.
        references: N lists of one or more texts, in the same order.
        count: how many, 0 or more.

    Raises:
        ValueError: there are none, or not as many of the one as of the other, or an image has no reference.
    """
    scores = cider_d_scores(hypotheses, references)
    scored = map(ScoredCaption, range(len(scores)), hypotheses, references, scores)
    return nsmallest(count, scored, key=lambda caption: caption.cider_d)


def _streams(references: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """As sacreBLEU takes them: the first reference of each image, the second of each, ...; None where there is none."""
    return list(zip_longest(*references))
