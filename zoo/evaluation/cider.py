"""CIDEr-D, the measure of image captioning: how well a caption agrees with what most people said of its image."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LONGEST_NGRAM = 4  # words
SIGMA = 6.0  # words, of the penalty for a caption that is longer or shorter than the reference

Ngram = tuple[str, ...]


def cider_d(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The mean of `cider_d_scores`, 0 to 10: the number that coco-caption prints, which papers multiply by 100."""
    scores = cider_d_scores(hypotheses, references)
    return sum(scores) / len(scores)


def cider_d_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each of N captions, 0 to 10 (Vedantam et al., "CIDEr: Consensus-based image description evaluation",
    CVPR 2015, section 5.1 and 8; the same numbers as pycocoevalcap's).

    A caption c becomes a vector g_n(c) for each n of 1 to 4, with the number of times that it has an n-gram, times the
    n-gram's weight log(N / images that have it in a reference, or 1 if none has). Of a caption c and its M references r

        10 / (4 M) · Σ_n Σ_r exp(-(l(c) - l(r))² / 2σ²) · min(g_n(c), g_n(r)) · g_n(r) / (|g_n(c)| |g_n(r)|)

    with l a length in words and σ = 6. What everybody says of every image has no weight: of one image alone all scores
    are 0. 10 is the score of a caption that is all of its references, has 4 words and something of its own. Scores of
    different sets of images do not compare, as the weights are those of the set.

    Args:
        hypotheses: N captions, words between blanks. Lower-cased and without punctuation, as is the custom.
        references: N lists of one or more captions, in the same order and form.

    Raises:
        ValueError: there are none, or not as many of the one as of the other, or an image has no reference.
    """
    check_references(references, hypotheses)
    counted = [list(map(_ngrams, captions)) for captions in references]
    images_with: Counter[Ngram] = Counter()
    for captions in counted:
        images_with.update(set().union(*captions))
    unseen = math.log(len(references))
    weights = {ngram: unseen - math.log(images) for ngram, images in images_with.items()}

    scores = []
    for hypothesis, captions in zip(hypotheses, counted, strict=True):
        vector = _vector(_ngrams(hypothesis), weights, unseen)
        similarities = [_similarity(vector, _vector(caption, weights, unseen)) for caption in captions]
        scores.append(10 * sum(similarities) / len(similarities))
    return scores


def check_references(references: Sequence[Sequence[str]], hypotheses: Sequence[str] | None = None) -> None:
    """Whether each of one or more images has references, and a hypothesis if these are given.

    Raises:
        ValueError: it is not so; the message says what was given and expected.
    """
    if hypotheses is not None and len(hypotheses) != len(references):
        raise ValueError(
            f"there are {len(hypotheses):,} hypotheses and references of {len(references):,} images: "
            "expected as many of each, in the same order"
        )
    if not references:
        raise ValueError("there are no captions: expected those of one image or more")
    for number, captions in enumerate(references):
        # A text is a sequence of texts too: its letters.
        if isinstance(captions, str) or not captions:
            raise ValueError(f"the references of image {number} are {captions!r}: expected a list of one text or more")


class _Vector(NamedTuple):
    words: int
    entries: dict[Ngram, float]  # of n-grams of all orders
    norms: list[float]  # one an order


def _ngrams(caption: str) -> Counter[Ngram]:
    words = caption.split()
    counts: Counter[Ngram] = Counter()
    for order in range(1, LONGEST_NGRAM + 1):
        counts.update(zip(*(words[start:] for start in range(order)), strict=False))
    return counts


def _vector(counts: Counter[Ngram], weights: Mapping[Ngram, float], unseen: float) -> _Vector:
    entries = {ngram: count * weights.get(ngram, unseen) for ngram, count in counts.items()}
    squares = [0.0] * LONGEST_NGRAM
    for ngram, entry in entries.items():
        squares[len(ngram) - 1] += entry * entry
    words = sum(count for ngram, count in counts.items() if len(ngram) == 1)
    return _Vector(words, entries, list(map(math.sqrt, squares)))


def _similarity(hypothesis: _Vector, reference: _Vector) -> float:
    """Of a caption to one reference, 0 to 1: the mean over the orders of n-grams."""
    products = [0.0] * LONGEST_NGRAM
    for ngram, entry in hypothesis.entries.items():
        expected = reference.entries.get(ngram, 0.0)
        # The -D: a word that is repeated beyond the reference's count does not pay.
        products[len(ngram) - 1] += min(entry, expected) * expected
    norms = zip(products, hypothesis.norms, reference.norms, strict=True)
    # A caption of fewer than n words has no n-grams.
    cosines = (product / (a * b) if product else 0.0 for product, a, b in norms)
    penalty = math.exp(-((hypothesis.words - reference.words) ** 2) / (2 * SIGMA**2))
    return penalty * sum(cosines) / LONGEST_NGRAM
