"""Training images changed at random, so that no epoch shows the same ones."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Augmentation = Literal["none", "shift", "flip", "shift+flip"]


def mirrors(kind: Augmentation) -> bool:
    """Whether it makes left of right."""
    return "flip" in kind


def augmented(images: Tensor, kind: Augmentation, generator: torch.Generator) -> Tensor:
    """Move each image by up to an eighth of its size either way, its border repeated; and mirror half of them.

    Args:
        images: (B, 3, height, width), uint8.
        kind: `none`, `shift`, `flip` (only change left for right), or `shift+flip`.
        generator: what is drawn from.

    Returns:
        (B, 3, height, width), uint8.
    """
    if kind == "none":
        return images
    moved = _shifted(images, generator) if "shift" in kind else images.clone()
    if mirrors(kind):
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        moved[mirrored] = moved[mirrored].flip(3)
    return moved


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    rows, columns = height // 8, width // 8
    padded = F.pad(images.float(), (columns, columns, rows, rows), mode="replicate").to(images.dtype)
    tops = torch.randint(2 * rows + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(2 * columns + 1, (count,), generator=generator).tolist()
    return torch.stack(
        [
            image[:, top : top + height, left : left + width]
            for image, top, left in zip(padded, tops, lefts, strict=True)
        ]
    )
