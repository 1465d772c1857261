"""From the outputs of every step to one vector a row."""

import torch
from torch import Tensor, nn

from zoo.core.fused import last_outputs
from zoo.core.padding import padding_mask
from zoo.core.products import Linear

POOLINGS = ("last", "mean", "max", "attention")


class Pooling(nn.Module):
    """One or several ways to sum a row up, joined; a row's padding counts in none of them.

    - `last`: what each direction ends with: the forward half of the last step's output and, where the core reads
      both ways, the backward half of the first step's.
    - `mean`, `max`: over the row's own steps.
    - `attention`: a mean weighted by how well each step answers to a learned vector, softmax over the row's steps
      of u·tanh(W h + b): Yang et al., "Hierarchical attention networks for document classification", 2016, eq. 5-7.

    Args:
        kinds: names out of `POOLINGS`.
        input_size: M, width of the outputs to pool, D·H.
        num_directions: D.

    Raises:
        ValueError: no kind, one given twice, or one that is not in `POOLINGS`.
    """

    def __init__(self, kinds: tuple[str, ...], input_size: int, num_directions: int) -> None:
        super().__init__()
        if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(POOLINGS):
            raise ValueError(f"pooling is {'+'.join(kinds)!r}, but must be of {', '.join(POOLINGS)}, joined by +")
        self.kinds = kinds
        self.num_directions = num_directions
        self.output_size = input_size * len(kinds)
        if "attention" in kinds:
            self.attention = Linear(input_size, input_size)
            self.context = Linear(input_size, 1, bias=False)

    def forward(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """Outputs (B, T, M), lengths (B,) -> (B, number of kinds · M), float32 (or the outputs' wider type)."""
        padding = padding_mask(lengths, outputs.shape[1])[..., None]
        wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return torch.cat([self._pool(kind, wide, lengths, padding) for kind in self.kinds], dim=-1)

    def _pool(self, kind: str, outputs: Tensor, lengths: Tensor, padding: Tensor) -> Tensor:
        if kind == "mean":
            return outputs.masked_fill(padding, 0).sum(dim=1) / lengths[:, None]
        if kind == "max":
            return outputs.masked_fill(padding, -torch.inf).amax(dim=1)
        if kind == "attention":
            # Not a product, which autocast would do in bfloat16.
            return (self.attention_weights(outputs, lengths)[..., None] * outputs).sum(dim=1)
        last = last_outputs(outputs, lengths)
        if self.num_directions == 1:
            return last
        half = outputs.shape[-1] // 2
        return torch.cat([last[:, :half], outputs[:, 0, half:]], dim=-1)

    def attention_weights(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """How much `attention` makes of each step: (B, T), rows sum to 1, zero in the padding."""
        scores = self.context(torch.tanh(self.attention(outputs))).squeeze(-1)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return scores.masked_fill(padding_mask(lengths, outputs.shape[1]), -torch.inf).softmax(dim=-1)
