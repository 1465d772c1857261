"""Where to compute, and in which precision."""

from typing import Literal

import torch

from zoo.errors import InputError

Precision = Literal["float32", "bfloat16"]

StepPrecision = Literal["float32", "bfloat16", "float16"]
"""Of the weights that texts are continued with; see `zoo.core.PackedDecoder`."""


def choose_device(name: str) -> torch.device:
    """`auto` is the accelerator if there is one, else the CPU. Raises InputError for a device that is not there."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device is {name}, but it cannot be used ({reason}); auto takes what there is") from None
    return device


def choose_precision(name: str, device: torch.device) -> Precision:
    """`auto` is bfloat16 where the hardware multiplies in it, else float32."""
    if name == "auto":
        return "bfloat16" if multiplies_in_bfloat16(device) else "float32"
    if name not in ("float32", "bfloat16"):
        raise InputError(f"precision is {name}, but must be auto, float32 or bfloat16")
    return "bfloat16" if name == "bfloat16" else "float32"


def multiplies_in_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are quicker there than in float32; without such hardware they are far slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Processors with matrix units (AMX) have these instructions too.
        return bool(torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported())
    return False
