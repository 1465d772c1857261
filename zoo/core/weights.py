"""The weights of one layer in one direction, as the cells' functions take them."""

from typing import NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor


class Products(Protocol):
    """All that a cell's step needs of its weights, in whatever form these are."""

    def input_product(self, x: Tensor) -> Tensor:
        """x (B, I) -> W x + b, (B, G·H)."""

    def state_product(self, h: Tensor) -> Tensor:
        """h (B, H) -> U h + c, (B, G·H)."""


class CellWeights(NamedTuple):
    """Named and laid out as in `torch.nn`: G blocks (gates) of H rows, input size I."""

    ih: Tensor  # (G·H, I)
    bias_ih: Tensor  # (G·H,)
    hh: Tensor | None = None  # (G·H, H); None where no product takes the last state
    bias_hh: Tensor | None = None  # (G·H,)

    def input_product(self, x: Tensor) -> Tensor:
        """x (B, I) -> W x + b, (B, G·H)."""
        return F.linear(x, self.ih, self.bias_ih)

    def state_product(self, h: Tensor) -> Tensor:
        """h (B, H) -> U h + c, (B, G·H)."""
        assert self.hh is not None
        return F.linear(h, self.hh, self.bias_hh)
