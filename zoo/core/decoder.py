"""The recurrent decoder: embed → core → scores of the next token.

Under teacher forcing it runs over the whole target at once; `step` is the same computation for one token.
"""

import torch
from torch import Tensor, nn

from zoo.core.dropout import LockedDropout
from zoo.core.embedding import TokenEmbedding
from zoo.core.output import linear_cross_entropy
from zoo.core.recurrent import RecurrentCore
from zoo.core.state import State


class RecurrentDecoder(nn.Module):
    """A language model over token ids.

    Args:
        vocab_size: V.
        embedding_size: E.
        hidden_size: H.
        num_layers: L.
        cell: a name in `zoo.core.CELLS`.
        tied: score with the embedding matrix (Press and Wolf, "Using the output embedding to improve language
            models", 2017); where H and E differ, a linear map from H to E comes before.
        ngram_order: above 1, the embeddings of the n-grams that end at each token are added to its own, for n up to
            this; see `NgramEmbedding`.
        ngram_buckets: rows of each n-gram table.
        dropout: locked dropout between layers and on the outputs.
        input_dropout: locked dropout on the embedded tokens.
        embedding_dropout: share of the vocabulary whose embeddings are dropped whole, a draw a batch.
        ngram_dropout: share of the n-gram embeddings dropped.
        weight_dropout: share of the recurrent matrices' weights dropped.
        residual: see `RecurrentCore`.

    Raises:
        ValueError: a size below 1, a probability outside [0, 1), or an unknown cell.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        tied: bool = False,
        ngram_order: int = 1,
        ngram_buckets: int = 20_000,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        ngram_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = TokenEmbedding(
            vocab_size,
            embedding_size,
            ngram_order=ngram_order,
            ngram_buckets=ngram_buckets,
            embedding_dropout=embedding_dropout,
            ngram_dropout=ngram_dropout,
            input_dropout=input_dropout,
            # Small enough that scores start near zero where the matrix is also the output's.
            std=embedding_size**-0.5 if tied else 0.5,
        )
        self.core = RecurrentCore(
            cell,
            embedding_size,
            hidden_size,
            num_layers,
            dropout=dropout,
            locked_dropout=True,
            weight_dropout=weight_dropout,
            residual=residual,
        )
        self.output_dropout = LockedDropout(dropout)
        self.projection = nn.Linear(hidden_size, embedding_size) if tied and hidden_size != embedding_size else None
        self.output = nn.Linear(embedding_size if tied else hidden_size, vocab_size)
        nn.init.zeros_(self.output.bias)
        if tied:
            self.output.weight = self.embedding.tokens.weight

    def initial_state(self, batch_size: int) -> State:
        """The core's, tensors (L, B, H); with n-gram embeddings, then the last tokens, (ngram_order - 1, B)."""
        return (*self.core.initial_state(batch_size), *self.embedding.initial_state(batch_size))

    def features(
        self, tokens: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """What the scores are computed from: tokens (B, T) -> (B, T, H), state. Rows are padded on the right."""
        state = self.initial_state(len(tokens)) if state is None else state
        core_state, recent = self._parts(state)
        embedded, recent = self.embedding(tokens, recent, lengths)
        outputs, core_state = self.core(embedded, core_state, lengths)
        return self.output_dropout(outputs), core_state + recent

    def _parts(self, state: State) -> tuple[State, State]:
        """The core's state and the embedding's."""
        parts = self.core.cell.state_parts
        return state[:parts], state[parts:]

    def scores(self, features: Tensor) -> Tensor:
        """Features (..., H) -> logits (..., V)."""
        return self.output(self._projected(features))

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean nats a token: features (B, T, H), targets (B, T) -> scalar. `scores` and cross-entropy in one."""
        rows = self._projected(features).flatten(0, 1)
        return linear_cross_entropy(rows, self.output.weight, self.output.bias, targets.flatten())

    def _projected(self, features: Tensor) -> Tensor:
        return features if self.projection is None else self.projection(features)

    def forward(
        self, tokens: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Tokens (B, T), state or None for zeros, lengths (B,) or None -> logits (B, T, V), state.

        Logits at step t score the token after the t-th. Those in a row's padding mean nothing.
        """
        features, state = self.features(tokens, state, lengths)
        return self.scores(features), state

    def prefill(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """Read prompts: tokens (B, T) padded on the right, lengths (B,) -> logits (B, V) of what follows, state."""
        features, state = self.features(tokens, None, lengths)
        rows = torch.arange(len(tokens), device=tokens.device)
        return self.scores(features[rows, lengths.to(tokens.device) - 1]), state

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """One token a row: (B,), state -> logits (B, V), state."""
        core_state, recent = self._parts(state)
        embedded, recent = self.embedding(tokens[:, None], recent)
        output, core_state = self.core.step(embedded[:, 0], core_state)
        return self.scores(self.output_dropout(output[:, None])[:, 0]), core_state + recent
