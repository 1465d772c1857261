"""Which precision to multiply in."""

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """Autocast's where it is on for the device of `x`, else that of `x`."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
