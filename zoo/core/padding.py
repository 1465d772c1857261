"""Which steps of a ragged batch are padding."""

import torch
from torch import Tensor


def padding_mask(lengths: Tensor, steps: int) -> Tensor:
    """Rows padded on the right: lengths (B,), T -> (B, T), bool, True from each row's own end on."""
    return torch.arange(steps, device=lengths.device) >= lengths[:, None]
