"""What a model is trained on where images go in: images, or an encoder's features of them if it does not learn."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from zoo.data.feature_cache import CachedFeatures
from zoo.data.image_tensors import ImageTensors
from zoo.data.images import Resize
from zoo.data.stored_images import StoredImage
from zoo.data.text_pieces import valid_unicode
from zoo.device import Precision
from zoo.one_to_one.image_encoder import ImageEncoder

Pictures = ImageTensors | CachedFeatures
"""By numbers: images (B, 3, height, width) or features (B, S, M)."""


def load_pictures(
    images: Sequence[StoredImage],
    name: str,
    encoder: ImageEncoder,
    resize: Resize,
    precision: Precision,
    cache: Path | None,
    mirrored: bool = False,
) -> Pictures:
    """Images; or, if nothing in the encoder learns and there is a cache, the features that it makes of them.

    Args:
        images: N images.
        name: what to call them, such as "training images".
        encoder: on the device where it is to compute.
        resize: see `ImageTensors`.
        precision: that the features are computed and kept in.
        cache: the folder for features; None to have images in any case.
        mirrored: the features are of the images with left for right.

    Raises:
        InputError: more than 1 % of the images cannot be read, or the cache cannot be written.
    """
    if cache is None or any(parameter.requires_grad for parameter in encoder.parameters()):
        return ImageTensors(images, encoder.image_size, resize, name)
    device = encoder.mean.device

    @torch.no_grad()
    def extract(batch: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            return encoder.eval()((batch.flip(3) if mirrored else batch).to(device))

    told = f"{_digest(encoder)} {precision} {device.type}{' mirrored' if mirrored else ''}"
    return CachedFeatures(images, extract, told, encoder.image_size, resize, name, cache)


def broken_notes(pictures: Mapping[str, Pictures]) -> list[str]:
    """A remark of one line on each split, {its name: its pictures}, of which images were left out."""
    return [
        f"{len(split.broken):,} {name} images are broken and left out ({valid_unicode(split.broken[0])})"
        for name, split in pictures.items()
        if split.broken
    ]


def _digest(encoder: ImageEncoder) -> str:
    digest = hashlib.sha256(encoder.backbone.encode())
    for tensor in encoder.trunk.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
