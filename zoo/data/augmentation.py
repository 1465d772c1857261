"""Training images changed at random, so that no epoch shows the same ones."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Augmentation = Literal["none", "shift", "shift+flip"]


def augmented(images: Tensor, kind: Augmentation, generator: torch.Generator) -> Tensor:
    """Move each image by up to an eighth of its size either way, its border repeated; and mirror half of them.

    Args:
        images: (B, 3, height, width), uint8.
        kind: `none`, `shift`, or `shift+flip`, which also changes left for right.
        generator: what is drawn from.

    Returns:
        (B, 3, height, width), uint8.
    """
    if kind == "none":
        return images
    count, _, height, width = images.shape
    rows, columns = height // 8, width // 8
    padded = F.pad(images.float(), (columns, columns, rows, rows), mode="replicate").to(images.dtype)
    tops = torch.randint(2 * rows + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(2 * columns + 1, (count,), generator=generator).tolist()
    moved = torch.stack(
        [
            image[:, top : top + height, left : left + width]
            for image, top, left in zip(padded, tops, lefts, strict=True)
        ]
    )
    if kind == "shift+flip":
        mirrored = torch.rand(count, generator=generator) < 0.5
        moved[mirrored] = moved[mirrored].flip(3)
    return moved
