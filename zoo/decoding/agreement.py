"""How well each of several texts agrees with what was said before of something like it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

LONGEST_NGRAM = 4
MOST_COMPARED = 2**24  # pairs of tokens at once: they take a byte each


def mean_bleu(candidates: Sequence[Sequence[int]], references: Tensor) -> Tensor:
    """The mean of each candidate's sentence BLEU to each reference by itself: (N,), 0 to 1; 0 without references.

    BLEU-4 with one added to matches and n-grams of two tokens or more (Lin and Och, "ORANGE: a method for evaluating
    automatic evaluation metrics for machine translation", 2004), which sacreBLEU calls `add-k`: zeros would be common.

    Args:
        candidates: N lists of tokens.
        references: (R, T), tokens, padded with negative numbers behind; those without a token count for nothing.
    """
    lengths = (references >= 0).sum(dim=1)
    references, lengths = references[lengths > 0], lengths[lengths > 0]
    longest = max(map(len, candidates), default=0)
    if len(lengths) == 0 or longest == 0:
        return torch.zeros(len(candidates), device=references.device)
    references = references[:, : int(lengths.max())]
    at_once = max(1, MOST_COMPARED // (longest * references.numel()))
    parts = [
        _sentence_bleu(candidates[start : start + at_once], references, lengths).mean(dim=1)
        for start in range(0, len(candidates), at_once)
    ]
    return torch.cat(parts)


def _sentence_bleu(candidates: Sequence[Sequence[int]], references: Tensor, wanted: Tensor) -> Tensor:
    """(N, R), of each of N candidates to each of R references (R, T) with their lengths (R,)."""
    rows = [torch.tensor(tokens, dtype=references.dtype) for tokens in candidates]
    # Padding of candidates is that of no reference.
    tokens = pad_sequence(rows, batch_first=True, padding_value=int(references.min()) - 1).to(references.device)
    lengths = torch.tensor([len(row) for row in rows], device=tokens.device)[:, None]
    equal = tokens[:, :, None, None] == references  # (N, places, R, places there)
    equal_own = tokens[:, :, None] == tokens[:, None]  # (N, places, places)
    same, own = equal, equal_own  # whether the n-grams that begin at two places are the same
    log_bleu = (1 - wanted / lengths.clamp(min=1)).clamp(max=0)  # the brevity penalty
    for n in range(1, LONGEST_NGRAM + 1):
        if n > 1:
            same = same[:, :-1, :, :-1] & equal[:, n - 1 :, :, n - 1 :]
            own = own[:, :-1, :-1] & equal_own[:, n - 1 :, n - 1 :]
        times = own.sum(dim=2)[..., None]  # that an n-gram is in its candidate: so often it is met in this sum
        matches = (torch.minimum(same.sum(dim=3), times) / times).sum(dim=1)
        added = float(n > 1)
        total = (lengths - n + 1).clamp(min=0) + added
        log_bleu = log_bleu + ((matches + added) / total.clamp(min=1)).log() / LONGEST_NGRAM
    return log_bleu.exp()
