"""Attention: what a decoder reads out of a memory, such as the encoder's outputs or a grid of image features.

Shapes: B batch, T queries, S places in the memory, H width of a query, M width of the memory, N heads.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.core.products import Linear

ATTENTIONS = ("additive", "general", "multihead")


class Memory(NamedTuple):
    """What is attended to, projected once for all queries: keys (B, S, H), values (B, S, M or H), and `padding`
    (B, S), bool, True where there is nothing."""

    keys: Tensor
    values: Tensor
    padding: Tensor

    def rows(self, index: Tensor) -> "Memory":
        """Rows of the batch: row n of the result is row `index[n]`. `index` is (N,), int64."""
        return Memory(*(part.index_select(0, index) for part in self))


class Attention(nn.Module):
    """A weighted mean of the memory for each query, mapped back to the query's width.

    Weights are a softmax over the memory's places of a score of query q and place m:

    - `additive`: v·tanh(W q + U m), Bahdanau et al., "Neural machine translation by jointly learning to align and
      translate", 2015;
    - `general`: q·W m, Luong et al., "Effective approaches to attention-based neural machine translation", 2015;
    - `multihead`: W_n q·U_n m / √(H/N) for each of N heads, which have values of their own, Vaswani et al.,
      "Attention is all you need", 2017.

    Args:
        kind: a name in `ATTENTIONS`.
        query_size: H.
        memory_size: M.
        num_heads: N, of `multihead`; it divides H.

    Raises:
        ValueError: an unknown kind, or `num_heads` that does not divide `query_size`.
    """

    def __init__(self, kind: str, query_size: int, memory_size: int, num_heads: int = 8) -> None:
        super().__init__()
        if kind not in ATTENTIONS:
            raise ValueError(f"attention is {kind!r}, but must be one of {', '.join(ATTENTIONS)}")
        if kind == "multihead" and (num_heads < 1 or query_size % num_heads):
            raise ValueError(
                f"num_heads is {num_heads}, but must divide the width of the queries, {query_size} (the hidden_size of "
                "what looks)"
            )
        self.kind = kind
        self.num_heads = num_heads if kind == "multihead" else 1
        self.keys = Linear(memory_size, query_size, bias=False)
        if kind != "general":
            self.queries = Linear(query_size, query_size)
        if kind == "additive":
            self.energy = Linear(query_size, 1, bias=False)
        if kind == "multihead":
            self.values = Linear(memory_size, query_size)
        self.output = Linear(query_size if kind == "multihead" else memory_size, query_size)

    def memory(self, memory: Tensor, padding: Tensor) -> Memory:
        """Project a memory once for all steps: (B, S, M), padding (B, S) bool -> Memory."""
        values = self.values(memory) if self.kind == "multihead" else memory
        return Memory(self.keys(memory), values, padding)

    def forward(self, queries: Tensor, memory: Memory) -> Tensor:
        """Queries (B, T, H), memory of B rows -> (B, T, H)."""
        values = self._heads(memory.values)
        read = self._weights(queries, memory).to(values.dtype) @ values
        return self.output(read.transpose(1, 2).flatten(2))

    def weights(self, queries: Tensor, memory: Memory) -> Tensor:
        """How much each query takes from each place: (B, T, S), rows sum to 1; of several heads the mean."""
        return self._weights(queries, memory).mean(dim=1)

    def _weights(self, queries: Tensor, memory: Memory) -> Tensor:
        """(B, N, T, S), at least in float32."""
        if self.kind == "additive":
            scores = self.energy(torch.tanh(self.queries(queries)[:, :, None] + memory.keys[:, None]))
            scores = scores.squeeze(-1)[:, None]
        else:
            if self.kind == "multihead":
                queries = self.queries(queries) * (queries.shape[-1] // self.num_heads) ** -0.5
            scores = self._heads(queries) @ self._heads(memory.keys).transpose(2, 3)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return scores.masked_fill(memory.padding[:, None, None], -torch.inf).softmax(dim=-1)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, N, T, H / N)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
