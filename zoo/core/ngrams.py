"""Embeddings of the last few tokens together: what an n-gram model looks up, as a recurrent network's input."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.dropout import check_probability

# One multiplier a position: large and odd, so that the same tokens in another order give another sum.
_MULTIPLIERS = (1, 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F, 0x165667B1, 0xD3A2646D, 0xFD7046C5)
MAX_ORDER = len(_MULTIPLIERS)

# Small beside the tokens' own embeddings: an n-gram counts for something once it has been seen.
INITIAL_SCALE = 0.02


def ngram_codes(row: Tensor, order: int) -> Iterator[Tensor]:
    """A number for each n-gram, n = 1 to `order`, that ends at each token: other n-grams mostly have others.

    `row` is (B, order - 1 + T), the tokens before the first and then the tokens, -1 for none. Yields `order` times
    (B, T) int64; the remainder by a table's size is a row of it.
    """
    steps = row.shape[1] - (order - 1)
    code = torch.zeros_like(row[:, :steps])
    for back in range(order):
        # + 2 so that neither "no token" nor token 0 vanishes from the sum.
        code = code + (row[:, order - 1 - back : order - 1 - back + steps] + 2) * _MULTIPLIERS[back]
        # High bits are mixed into the low ones before the remainder is taken.
        yield code ^ (code >> 15)


class NgramEmbedding(nn.Module):
    """Sum of embeddings of the n-grams that end at each token, for n from 2 to `order`, in hashed tables.

    A recurrent network spends much of its first epochs on learning what a few characters in a row mean; a table
    look-up knows it at once and costs no product. Hashed n-gram embeddings: Bojanowski et al., "Enriching word
    vectors with subword information", 2017; for characters in a language model, Pagnoni et al., "Byte latent
    transformer", 2024, section 3.2.1.

    Args:
        vocab_size: V.
        embedding_size: E.
        order: the longest n-gram, 2 to 8.
        buckets: rows of each table; n-grams beyond that share rows.
        dropout: share of the look-ups dropped in training, a draw an order and position, so that the network
            also learns to do without.

    Raises:
        ValueError: an order or number of buckets out of range.
    """

    def __init__(self, vocab_size: int, embedding_size: int, order: int, buckets: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not 2 <= order <= MAX_ORDER:
            raise ValueError(f"ngram_order is {order}, but must be from 2 to {MAX_ORDER} (or 1 for none)")
        if buckets < 1:
            raise ValueError(f"ngram_buckets is {buckets}, but must be at least 1")
        check_probability("ngram_dropout", dropout)
        self.order = order
        self.dropout = dropout
        # A table need not be larger than the number of n-grams there are.
        self.tables = nn.ParameterList(
            [torch.randn(min(buckets, vocab_size**n), embedding_size).mul_(INITIAL_SCALE) for n in range(2, order + 1)]
        )

    def initial_recent(self, batch_size: int, device: torch.device) -> Tensor:
        """(order - 1, B): -1, no token yet, for each of the tokens before the first."""
        return torch.full((self.order - 1, batch_size), -1, dtype=torch.long, device=device)

    def forward(self, tokens: Tensor, recent: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embed the n-grams that end at each of `tokens`.

        Args:
            tokens: (B, T).
            recent: (order - 1, B), the tokens before, oldest first; -1 for none.
            lengths: (B,), each row's own tokens; None where every row has T.

        Returns:
            (B, T, E), and `recent` after each row's last token.
        """
        steps = tokens.shape[1]
        row = torch.cat([recent.T, tokens], dim=1)
        embedded = tokens.new_zeros((), dtype=self.tables[0].dtype)
        _, *codes = ngram_codes(row, self.order)
        for code, table in zip(codes, self.tables, strict=True):
            found = F.embedding(code % table.shape[0], table)
            if self.training and self.dropout > 0:
                found = found * F.dropout(found.new_ones(*tokens.shape, 1), self.dropout)
            embedded = embedded + found
        if lengths is None:
            return embedded, row[:, steps:].T
        last = lengths.to(tokens.device)[:, None] + torch.arange(self.order - 1, device=tokens.device)
        return embedded, row.gather(1, last).T
