"""The recurrent decoder: embed → core → scores of the next token, or with a memory to attend to
embed → lower core → attention → upper core → scores.

Attention reads the lower core's outputs, and what it finds is never fed back below it. So under teacher forcing every
part runs over the whole target at once; `step` is the same computation for one token.
"""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.core.attention import Attention, Memory
from zoo.core.autocast import compute_dtype
from zoo.core.dropout import LockedDropout
from zoo.core.embedding import TokenEmbedding
from zoo.core.output import linear_cross_entropy
from zoo.core.packed import PackedLinear
from zoo.core.padding import padding_mask
from zoo.core.products import Linear
from zoo.core.recurrent import RecurrentCore
from zoo.core.state import State

END = "</s>"
"""How a token that ends a sequence, and is not of the tokenizer's, is shown."""


def delayed(targets: Tensor, first_id: int) -> Tensor:
    """What a decoder reads where it is to write `targets` (B, T): the same one step later, behind `first_id`."""
    return torch.cat([torch.full_like(targets[:, :1], first_id), targets[:, :-1]], dim=1)


class RecurrentDecoder(nn.Module):
    """A language model over token ids, which may have a memory to look at.

    Args:
        vocab_size: V.
        embedding_size: E.
        hidden_size: H.
        num_layers: L.
        cell: a name in `zoo.core.CELLS`.
        attention: a name in `zoo.core.ATTENTIONS`, or None for a decoder without a memory. What the lowest layer puts
            out attends to the memory, and what it reads there is added to it on the way to the layers above.
        memory_size: M, the memory's width, with `attention`.
        num_heads: see `Attention`.
        tied: score with the embedding matrix (Press and Wolf, "Using the output embedding to improve language
            models", 2017); where H and E differ, a linear map from H to E comes before.
        ngram_order: above 1, the embeddings of the n-grams that end at each token are added to its own, for n up to
            this; see `NgramEmbedding`.
        ngram_buckets: rows of each n-gram table.
        dropout: locked dropout between layers and on the outputs; attention lies between two layers.
        input_dropout: locked dropout on the embedded tokens.
        embedding_dropout: share of the vocabulary whose embeddings are dropped whole, a draw a batch.
        ngram_dropout: share of the n-gram embeddings dropped.
        weight_dropout: share of the recurrent matrices' weights dropped.
        residual: see `RecurrentCore`.

    Raises:
        ValueError: a size below 1, a probability outside [0, 1), an unknown cell or attention; with attention, fewer
            than two layers or no `memory_size`.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        attention: str | None = None,
        memory_size: int | None = None,
        num_heads: int = 8,
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
        if attention is not None and num_layers < 2:
            raise ValueError(
                f"num_layers is {num_layers}, but must be at least 2 with attention {attention!r}, which lies between "
                "two layers"
            )
        if attention is not None and memory_size is None:
            raise ValueError(f"attention is {attention!r}, but there is no memory_size: it needs a memory to look at")
        self.vocab_size = vocab_size
        self.embedding = TokenEmbedding(
            vocab_size,
            embedding_size,
            ngram_order=ngram_order,
            ngram_buckets=ngram_buckets,
            embedding_dropout=embedding_dropout,
            ngram_dropout=ngram_dropout,
            input_dropout=input_dropout,
            std=None if tied else 0.5,
        )
        options: dict[str, Any] = {
            "dropout": dropout,
            "locked_dropout": True,
            "weight_dropout": weight_dropout,
            "residual": residual,
        }
        self.core = RecurrentCore(cell, embedding_size, hidden_size, num_layers if attention is None else 1, **options)
        self.attention: Attention | None = None
        if attention is not None and memory_size is not None:
            self.attention = Attention(attention, hidden_size, memory_size, num_heads)
            self.attention_dropout = LockedDropout(dropout)
            self.upper_core = RecurrentCore(cell, hidden_size, hidden_size, num_layers - 1, **options)
        self.output_dropout = LockedDropout(dropout)
        self.projection = Linear(hidden_size, embedding_size) if tied and hidden_size != embedding_size else None
        self.output = Linear(embedding_size if tied else hidden_size, vocab_size)
        nn.init.zeros_(self.output.bias)
        if tied:
            self.output.weight = self.embedding.tokens.weight

    def initial_state(self, batch_size: int) -> State:
        """The core's, tensors (L, B, H); with n-gram embeddings, then the last tokens, (ngram_order - 1, B)."""
        core = self.core.initial_state(batch_size)
        if self.attention is not None:
            core = _stacked(core, self.upper_core.initial_state(batch_size))
        return (*core, *self.embedding.initial_state(batch_size))

    def memory(self, memory: Tensor, lengths: Tensor) -> Memory:
        """What `attention` can look at: (B, S, M), rows of `lengths` (B,) places -> Memory, computed once a row.

        Raises ValueError for a decoder without attention.
        """
        if self.attention is None:
            raise ValueError("this decoder has no attention to look at a memory with")
        return self.attention.memory(memory, padding_mask(lengths.to(memory.device), memory.shape[1]))

    def features(
        self,
        tokens: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        memory: Memory | None = None,
    ) -> tuple[Tensor, State]:
        """What the scores are computed from: tokens (B, T) -> (B, T, H), state. Rows are padded on the right."""
        state = self.initial_state(len(tokens)) if state is None else state
        lower, upper, recent = self._parts(state)
        embedded, recent = self.embedding(tokens, recent, lengths)
        outputs, lower = self.core(embedded, lower, lengths)
        if self.attention is not None:
            outputs = self._attended(outputs, memory)
            outputs, upper = self.upper_core(outputs, upper, lengths)
        return self.output_dropout(outputs), _stacked(lower, upper) + recent

    def attention_weights(
        self, tokens: Tensor, memory: Memory, state: State | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Where each step looks: tokens (B, T), memory (B, S, ...) -> (B, T, S), rows sum to 1.

        Raises ValueError for a decoder without attention.
        """
        if self.attention is None:
            raise ValueError("this decoder has no attention")
        lower, _, recent = self._parts(self.initial_state(len(tokens)) if state is None else state)
        embedded, _ = self.embedding(tokens, recent, lengths)
        return self.attention.weights(self.core(embedded, lower, lengths)[0], memory)

    def _parts(self, state: State) -> tuple[State, State, State]:
        """The states of the core, of the upper core (empty without attention) and of the embedding."""
        parts, layers = self.core.cell.state_parts, self.core.num_layers
        upper = () if self.attention is None else tuple(part[layers:] for part in state[:parts])
        return tuple(part[:layers] for part in state[:parts]), upper, state[parts:]

    def _attended(self, outputs: Tensor, memory: Memory | None) -> Tensor:
        """The lower core's outputs, (B, T, H), and what they find in the memory -> (B, T, H).

        Rows may be several times those of the memory: so many in a row then share one of its rows (beams).
        """
        if self.attention is None or memory is None:
            raise ValueError("this decoder has attention: give it a memory to look at")
        rows, sources = len(outputs), len(memory.padding)
        # Otherwise steps could stand in for the rows that are missing.
        if sources == 0 or rows % sources:
            raise ValueError(f"there are {rows} rows and a memory of {sources} rows, which must divide them")
        queries = outputs.reshape(sources, -1, outputs.shape[-1])
        return self.attention_dropout(outputs + self.attention(queries, memory).reshape_as(outputs))

    def scores(self, features: Tensor) -> Tensor:
        """Features (..., H) -> logits (..., V)."""
        return self.output(self._projected(features))

    def loss(
        self, features: Tensor, targets: Tensor, lengths: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Mean nats a token: features (B, T, H), targets (B, T) -> scalar. `scores` and cross-entropy in one.

        With lengths (B,) padding counts for nothing; for `label_smoothing` see `linear_cross_entropy`.
        """
        rows, wanted = features.flatten(0, 1), targets.flatten()
        if lengths is not None:
            inside = (~padding_mask(lengths.to(targets.device), targets.shape[1])).flatten().nonzero().squeeze(1)
            rows, wanted = rows[inside], wanted[inside]
        return linear_cross_entropy(
            self._projected(rows), self.output.weight, self.output.bias, wanted, label_smoothing
        )

    def _projected(self, features: Tensor) -> Tensor:
        return features if self.projection is None else self.projection(features)

    def forward(
        self,
        tokens: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        memory: Memory | None = None,
    ) -> tuple[Tensor, State]:
        """Tokens (B, T), state or None for zeros, lengths (B,) or None, memory of B rows -> logits (B, T, V), state.

        Logits at step t score the token after the t-th. Those in a row's padding mean nothing.

        Raises:
            ValueError: the decoder has attention, and there is no memory, or its rows do not divide B.
        """
        features, state = self.features(tokens, state, lengths, memory)
        return self.scores(features), state

    def prefill(
        self, tokens: Tensor, lengths: Tensor, state: State | None = None, memory: Memory | None = None
    ) -> tuple[Tensor, State]:
        """Read prompts: tokens (B, T) padded on the right, lengths (B,) -> logits (B, V) of what follows, state."""
        features, state = self.features(tokens, state, lengths, memory)
        rows = torch.arange(len(tokens), device=tokens.device)
        return self.scores(features[rows, lengths.to(tokens.device) - 1]), state

    def step(
        self, tokens: Tensor, state: State, memory: Memory | None = None, packed: "PackedDecoder | None" = None
    ) -> tuple[Tensor, State]:
        """One token a row: (N,), state, memory -> logits (N, V), state.

        N may be several times the memory's rows: rows 0 to K - 1 share its first, rows K to 2K - 1 its second, and so
        on, as the beams of a sentence do. `packed` is this decoder's weights in another form.
        """
        lower, upper, recent = self._parts(state)
        embedded, recent = self.embedding(tokens[:, None], recent)
        output, lower = self.core.step(embedded[:, 0], lower, None if packed is None else packed.core)
        if self.attention is not None:
            attended = self._attended(output[:, None], memory)[:, 0]
            output, upper = self.upper_core.step(attended, upper, None if packed is None else packed.upper_core)
        output = self.output_dropout(output[:, None])[:, 0]
        scores = self.scores(output) if packed is None else packed.output(self._projected(output))
        return scores, _stacked(lower, upper) + recent


def _stacked(lower: State, upper: State) -> State:
    """The state of two cores one above the other: tensors (L, B, H) and (L', B, H) -> (L + L', B, H)."""
    return tuple(torch.cat(parts) for parts in zip(lower, upper, strict=True)) if upper else lower


class PackedDecoder(nn.Module):
    """A decoder that steps with its weights laid out for it (`zoo.core.packed`).

    In 16 bits they are rounded. A step of few rows is bound by reading the weights, of which that is half as much.
    bfloat16 also multiplies faster on hardware that does (`zoo.device.multiplies_in_bfloat16` tells), where prompts
    are read in it too; on other it may be slower. float16 is for all other x86 CPUs, whose products stay float32. In
    steps embeddings, norms, states and attention stay as they are. (Of int8 PyTorch has two kinds: one rounds a row
    by what else is in its batch, the other is slower than float32 without AVX-512.)

    Args:
        decoder: what to step; it must not change afterwards.
        dtype: of its weights; None for what it would multiply in itself.
    """

    def __init__(self, decoder: RecurrentDecoder, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        dtype = compute_dtype(decoder.output.weight) if dtype is None else dtype
        self.decoder, self.dtype = decoder, dtype
        self.core = decoder.core.packed_layers(dtype)
        self.upper_core = None if decoder.attention is None else decoder.upper_core.packed_layers(dtype)
        self.output = PackedLinear(decoder.output.weight, decoder.output.bias, dtype)

    def prefill(
        self, tokens: Tensor, lengths: Tensor, state: State | None = None, memory: Memory | None = None
    ) -> tuple[Tensor, State]:
        """As the decoder's, to the precision of the weights."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self.decoder.prefill(tokens, lengths, state, memory)

    def step(self, tokens: Tensor, state: State, memory: Memory | None = None) -> tuple[Tensor, State]:
        """As the decoder's, to the precision of the weights."""
        return self.decoder.step(tokens, state, memory, self)
