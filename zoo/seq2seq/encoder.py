"""The encoder of an encoder-decoder."""

import torch
from torch import Tensor, nn

from zoo.core import RecurrentCore
from zoo.core.dropout import LockedDropout
from zoo.core.embedding import TokenEmbedding
from zoo.core.fused import last_outputs


class RecurrentEncoder(nn.Module):
    """Embeds a sequence and reads it: the first layer from both ends, the others from its beginning, all residual.

    Wu et al., "Google's neural machine translation system", 2016, section 3.2, has that order: what stands after a
    token is known from the first layer on, and those above need no second direction.

    Args:
        vocab_size: V.
        embedding_size: E.
        hidden_size: H, the width of the outputs, even: half of it for each direction of the first layer.
        num_layers: L.
        cell: a name in `zoo.core.CELLS`.
        dropout: locked dropout between layers and on the outputs.
        input_dropout, embedding_dropout: see `TokenEmbedding`.
        weight_dropout: share of the recurrent matrices' weights dropped.

    Raises:
        ValueError: a size below 1, an odd `hidden_size`, a probability outside [0, 1), or an unknown cell.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 2,
        cell: str = "lstm",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        weight_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_layers < 1 or hidden_size < 2 or hidden_size % 2:
            raise ValueError(
                f"num_layers is {num_layers} and hidden_size {hidden_size}, but must be at least 1, and even: half of "
                "it reads from each end"
            )
        self.embedding = TokenEmbedding(
            vocab_size,
            embedding_size,
            embedding_dropout=embedding_dropout,
            input_dropout=input_dropout,
            std=None,
        )
        self.core = RecurrentCore(
            cell,
            embedding_size,
            hidden_size // 2,
            bidirectional=True,
            weight_dropout=weight_dropout,
            residual=True,
        )
        self.dropout = LockedDropout(dropout)
        self.upper_core = (
            None
            if num_layers == 1
            else RecurrentCore(
                cell,
                hidden_size,
                hidden_size,
                num_layers - 1,
                dropout=dropout,
                locked_dropout=True,
                weight_dropout=weight_dropout,
                residual=True,
            )
        )
        self.summary_size = (self.core.cell.state_parts * num_layers + 1) * hidden_size

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, S) padded on the right, lengths (B,) -> outputs (B, S, H), zero in the padding, and a summary of
        each row (B, P·L·H + H): the P tensors of every layer's last state, and the last outputs, side by side."""
        embedded, _ = self.embedding(tokens, None, lengths)
        outputs, state = self.core(embedded, None, lengths)
        states = [state]
        outputs = self.dropout(outputs)
        if self.upper_core is not None:
            outputs, state = self.upper_core(outputs, None, lengths)
            states.append(state)
            outputs = self.dropout(outputs)
        # The last outputs are in no state where layers are residual: they are the sum of all layers'.
        summary = [_flat(part) for state in states for part in state]
        return outputs, torch.cat([*summary, last_outputs(outputs, lengths.to(outputs.device))], dim=-1)


def _flat(part: Tensor) -> Tensor:
    """(L·D, B, H) -> (B, L·D·H)."""
    return part.transpose(0, 1).flatten(1)
