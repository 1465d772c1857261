"""How well each of several texts agrees with what was said before of something like it."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

LONGEST_NGRAM = 4


def mean_bleu(candidates: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> Tensor:
    """The mean of each candidate's sentence BLEU to each reference by itself: (N,), 0 to 1.

    BLEU-4 with one added to matches and n-grams of two tokens or more (Lin and Och, "ORANGE: a method for evaluating
    automatic evaluation metrics for machine translation", 2004), which sacreBLEU calls `add-k`: zeros would be common.

    Args:
        candidates: N lists of tokens.
        references: one or more lists of tokens.
    """
    counted = [_ngrams(tokens) for tokens in candidates]
    # Only n-grams that a candidate has can match. One of an order stands behind the other.
    order = sorted(set().union(*counted), key=len)
    column = {ngram: number for number, ngram in enumerate(order)}
    ours = torch.zeros(len(candidates), len(order))
    theirs = torch.zeros(len(references), len(order))
    for table, rows in ((ours, counted), (theirs, map(_ngrams, references))):
        for row, counts in enumerate(rows):
            known = [(column[ngram], count) for ngram, count in counts.items() if ngram in column]
            if known:
                columns, values = zip(*known, strict=True)
                table[row, list(columns)] = torch.tensor(values, dtype=torch.float32)
    lengths = torch.tensor([float(len(tokens)) for tokens in candidates])[:, None]
    wanted = torch.tensor([float(len(tokens)) for tokens in references])
    log_bleu = (1 - wanted / lengths.clamp(min=1)).clamp(max=0)  # the brevity penalty
    start = 0
    for n in range(1, LONGEST_NGRAM + 1):
        end = start + sum(len(ngram) == n for ngram in order)
        matches = torch.minimum(ours[:, None, start:end], theirs[:, start:end]).sum(dim=-1)
        added = float(n > 1)
        total = (lengths - n + 1).clamp(min=0) + added
        log_bleu = log_bleu + ((matches + added) / total.clamp(min=1)).log() / LONGEST_NGRAM
        start = end
    return log_bleu.exp().mean(dim=1)


def _ngrams(tokens: Sequence[int]) -> Counter[tuple[int, ...]]:
    counts: Counter[tuple[int, ...]] = Counter()
    for n in range(1, LONGEST_NGRAM + 1):
        counts.update(zip(*(tokens[start:] for start in range(n)), strict=False))
    return counts
