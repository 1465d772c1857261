"""A linear classifier of the n-grams that a text has, wherever they stand: the wide part beside a deep one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.ngrams import MAX_ORDER, ngram_codes
from zoo.core.padding import padding_mask
from zoo.data.length_batches import pad

# Texts are counted so many at a time.
COUNTED_AT_ONCE = 256


class BagOfNgrams(nn.Module):
    """Scores of labels from the n-grams in a text, n = 1 to `order`, each counted once, hashed into one table.

    An n-gram adds weight · ratio to the scores, over the root of how many the text has. `ratio`, by counting, is how
    much likelier it is with each label than with the labels on average (by their logarithms); the weights are learned,
    1 at first, which is naive Bayes. Wang and Manning, "Baselines and bigrams: simple, good sentiment and topic
    classification", 2012: NB-SVM, here with a logistic loss.

    Args:
        num_labels: C.
        order: the longest n-gram, 1 to 8.
        buckets: rows of the table; n-grams beyond that share rows.
        multi_label: a ratio is of texts with the label to texts without it.

    Raises:
        ValueError: an order or number of buckets out of range.
    """

    ratios: Tensor

    def __init__(self, num_labels: int, order: int, buckets: int, multi_label: bool = False) -> None:
        super().__init__()
        if not 1 <= order <= MAX_ORDER:
            raise ValueError(f"bag_order is {order}, but must be from 1 to {MAX_ORDER} (or 0 for none)")
        if buckets < 1:
            raise ValueError(f"bag_buckets is {buckets}, but must be at least 1")
        self.order = order
        self.multi_label = multi_label
        self.weights = nn.Parameter(torch.ones(buckets))
        self.bias = nn.Parameter(torch.zeros(num_labels))
        self.register_buffer("ratios", torch.zeros(buckets, num_labels))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """What each token adds to the scores: tokens (B, T) padded on the right, lengths (B,) -> (B, T, C), float32.

        An n-gram's part is that of the token at which it first ends. Scores are the sum over T, and `bias`.
        """
        index, counts = self._ngrams(tokens, lengths)
        weights = F.embedding(index, self.weights[:, None]) * counts[..., None]
        parts = (weights * F.embedding(index, self.ratios)).sum(dim=2)
        return parts / counts.sum(dim=(1, 2), keepdim=True).sqrt()

    def _ngrams(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, order): the table's row of each n-gram; and bool, False in the padding and for what came before."""
        row = F.pad(tokens, (self.order - 1, 0), value=-1)
        index = torch.stack(list(ngram_codes(row, self.order)), dim=2) % len(self.weights)
        inside = ~padding_mask(lengths, tokens.shape[1])[..., None].expand_as(index)
        sorted_index, places = index.masked_fill(~inside, -1).flatten(1).sort(dim=1, stable=True)
        is_first = F.pad(sorted_index[:, 1:] != sorted_index[:, :-1], (1, 0), value=True)
        first = torch.zeros_like(is_first).scatter(1, places, is_first).view_as(inside)
        return index, inside & first

    @torch.no_grad()
    def count(self, rows: Sequence[Tensor], targets: Tensor) -> None:
        """Set the ratios to those of training texts, with one of each n-gram added.

        Args:
            rows: N texts (T,).
            targets: (N,) int64, the label's number, or for several labels a text (N, C) float32, 1 or 0.
        """
        num_labels = self.ratios.shape[1]
        labels = targets if self.multi_label else F.one_hot(targets, num_labels).float()
        with_label, without = (torch.ones(len(self.weights), num_labels) for _ in range(2))
        for start in range(0, len(rows), COUNTED_AT_ONCE):
            chosen = slice(start, start + COUNTED_AT_ONCE)
            index, counts = self._ngrams(*pad(rows[chosen]))
            which, *_ = counts.nonzero(as_tuple=True)
            with_label.index_add_(0, index[counts], labels[chosen][which])
            without.index_add_(0, index[counts], 1 - labels[chosen][which])
        ratios = (with_label / with_label.sum(dim=0)).log()
        other = (without / without.sum(dim=0)).log() if self.multi_label else ratios.mean(dim=1, keepdim=True)
        self.ratios.copy_(ratios - other)
