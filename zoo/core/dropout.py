"""Three kinds of dropout that recurrent models are trained with, beside `torch.nn.Dropout`."""

import torch.nn.functional as F
from torch import Tensor, nn


class LockedDropout(nn.Module):
    """One mask for all steps of a row: Gal and Ghahramani, "A theoretically grounded application of dropout", 2016.

    Args:
        p: share of the features dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        check_probability("dropout", p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, H)."""
        if not self.training or self.p == 0:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p)


def embed_with_word_dropout(tokens: Tensor, weight: Tensor, p: float) -> Tensor:
    """Look up embeddings with whole words dropped: one draw a word of the vocabulary for the batch, not a position.

    Gal and Ghahramani, 2016; the embedding dropout of AWD-LSTM (Merity et al., 2018).

    Args:
        tokens: (B, T), int64.
        weight: (V, E).
        p: share of the vocabulary dropped; 0 for none.

    Returns:
        (B, T, E).
    """
    embedded = F.embedding(tokens, weight)
    if p == 0:
        return embedded
    kept = F.dropout(weight.new_ones(weight.shape[0], 1), p)
    return embedded * F.embedding(tokens, kept)


def check_probability(name: str, p: float) -> None:
    """Raise ValueError unless p is in [0, 1)."""
    if not 0 <= p < 1:
        raise ValueError(f"{name} is {p}, but must be at least 0 and below 1")
