"""Tokens to vectors: what every text model begins with."""

from torch import Tensor, nn

from zoo.core.dropout import LockedDropout, check_probability, embed_with_word_dropout
from zoo.core.ngrams import NgramEmbedding
from zoo.core.state import State


class TokenEmbedding(nn.Module):
    """Each token's embedding, plus those of the n-grams that end at it.

    The last few tokens, which the next n-grams begin with, are a state like the core's: a tuple that is handed on,
    empty where there are no n-grams.

    Args:
        vocab_size: V.
        embedding_size: E.
        ngram_order: the longest n-gram with an embedding of its own; 1 for none. See `NgramEmbedding`.
        ngram_buckets: rows of each n-gram table.
        embedding_dropout: share of the vocabulary whose embeddings are dropped whole, a draw a batch.
        ngram_dropout: share of the n-gram embeddings dropped.
        input_dropout: locked dropout on the sum.
        std: of the normal distribution that the token embeddings are drawn from at first; None for E^-0.5, small enough
            that scores start near zero where the matrix is also the output's.

    Raises:
        ValueError: a size below 1 or a probability outside [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        *,
        ngram_order: int = 1,
        ngram_buckets: int = 20_000,
        embedding_dropout: float = 0.0,
        ngram_dropout: float = 0.0,
        input_dropout: float = 0.0,
        std: float | None = 0.5,
    ) -> None:
        super().__init__()
        for name, size in (("vocab_size", vocab_size), ("embedding_size", embedding_size)):
            if size < 1:
                raise ValueError(f"{name} is {size}, but must be at least 1")
        check_probability("embedding_dropout", embedding_dropout)
        check_probability("input_dropout", input_dropout)
        self.embedding_dropout = embedding_dropout
        self.tokens = nn.Embedding(vocab_size, embedding_size)
        nn.init.normal_(self.tokens.weight, std=embedding_size**-0.5 if std is None else std)
        self.ngrams = (
            None
            if ngram_order == 1
            else NgramEmbedding(vocab_size, embedding_size, ngram_order, ngram_buckets, ngram_dropout)
        )
        self.dropout = LockedDropout(input_dropout)

    def initial_state(self, batch_size: int) -> State:
        """No tokens yet: ((ngram_order - 1, B),), or () where there are no n-grams."""
        if self.ngrams is None:
            return ()
        return (self.ngrams.initial_recent(batch_size, self.tokens.weight.device),)

    def forward(
        self, tokens: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Tokens (B, T), state or None for none before, lengths (B,) or None -> (B, T, E), state."""
        embedded = embed_with_word_dropout(tokens, self.tokens.weight, self.embedding_dropout if self.training else 0.0)
        state = self.initial_state(len(tokens)) if state is None else state
        if self.ngrams is not None:
            ngrams, recent = self.ngrams(tokens, state[0], lengths)
            embedded, state = embedded + ngrams, (recent,)
        return self.dropout(embedded), state
