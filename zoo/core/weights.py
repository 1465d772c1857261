"""The weights of one layer in one direction, as the cells' functions take them."""

from typing import NamedTuple

from torch import Tensor


class CellWeights(NamedTuple):
    """Named and laid out as in `torch.nn`: G blocks (gates) of H rows, input size I."""

    ih: Tensor  # (G·H, I)
    bias_ih: Tensor  # (G·H,)
    hh: Tensor | None = None  # (G·H, H); None where no product takes the last state
    bias_hh: Tensor | None = None  # (G·H,)
