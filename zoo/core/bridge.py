"""From an encoder to a decoder's first state."""

import torch
from torch import Tensor, nn

from zoo.core.products import Linear
from zoo.core.recurrent import RecurrentCore
from zoo.core.state import State


class Bridge(nn.Module):
    """A decoder's first state from what an encoder has gathered: tanh of a linear map (Bahdanau et al., 2015, A.2.2).

    Since the map takes all that was gathered and makes all of the state, the two may differ in cell, width and depth.

    Args:
        summary_size: width of what the encoder has gathered: its last states, side by side, or an image's features.
        core: any core of the decoder's cell and width.
        num_layers: L, all layers of the decoder.
    """

    def __init__(self, summary_size: int, core: RecurrentCore, num_layers: int) -> None:
        super().__init__()
        self.shape = (core.cell.state_parts, num_layers, core.hidden_size)
        self.linear = Linear(summary_size, core.cell.state_parts * num_layers * core.hidden_size)

    def forward(self, summary: Tensor) -> State:
        """(B, summary_size) -> tensors (L, B, H)."""
        return tuple(torch.tanh(self.linear(summary)).unflatten(1, self.shape).permute(1, 2, 0, 3))
