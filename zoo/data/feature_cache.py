"""The features of images, computed once by an encoder that does not learn, and kept on the disk.

N images, S places, M the features' width.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from zoo.data.cache_folder import mapped, written
from zoo.data.image_tensors import BATCH, check_broken, load_image
from zoo.data.images import Resize
from zoo.data.stored_images import StoredImage
from zoo.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class CachedFeatures:
    """The features of N images, memory-mapped: computed at first, found again when the same are asked for later.

    Which they are is told by the images (content, or for files path, size and time of change), by what brings them to
    one size, and by `encoder`. What was only partly written, or has been cut since, is computed anew.

    Args:
        images: N images.
        extract: (B, 3, size, size) uint8 -> (B, S, M).
        encoder: tells the encoder from others: its weights and precision, in some words or as a digest.
        size, resize: see `zoo.data.image_tensors.ImageTensors`.
        name: what to call the images, such as "training images".
        folder: where to keep them.

    Attributes:
        kept: the numbers of the images that could be read.
        broken: what is wrong with the others, one line each.
        computed: whether they were not there yet.
        fingerprint: tells these images, of this size, from others; as that of `ImageTensors`, wherever they lie.

    Raises:
        InputError: more than 1 % of the images cannot be read, there are none, or the folder cannot be written.
    """

    def __init__(
        self,
        images: Sequence[StoredImage],
        extract: Callable[[Tensor], Tensor],
        encoder: str,
        size: int,
        resize: Resize,
        name: str,
        folder: Path,
    ) -> None:
        self.file = folder / f"features-{_digest(images, encoder, size, resize)}.bin"
        stored = self._stored(len(images))
        self.computed = stored is None
        found = stored or self._compute(images, extract, size, resize, name)
        self._features = mapped(self.file, DTYPES[found["dtype"]]).view(tuple(found["shape"]))
        self.broken: list[str] = found["broken"]
        self.kept: list[int] = found["kept"]
        self.fingerprint: str = found["fingerprint"]

    @property
    def _description(self) -> Path:
        return self.file.with_suffix(".json")

    def __call__(self, numbers: Sequence[int]) -> Tensor:
        """Features of images by their numbers: (B, S, M). (A broken image's are those of a black one.)"""
        return self._features[list(numbers)]

    def _stored(self, images: int) -> dict[str, Any] | None:
        """The description of what is there, if that is whole."""
        try:
            found = json.loads(self._description.read_text(encoding="utf-8"))
            shape, kept, broken, fingerprint = (found[key] for key in ("shape", "kept", "broken", "fingerprint"))
            itemsize = DTYPES[found["dtype"]].itemsize
            whole = (
                [type(length) for length in shape] == [int] * 3
                and shape[0] == images
                and min(shape) > 0
                and math.prod(shape) * itemsize == self.file.stat().st_size
                and all(type(number) is int for number in kept)
                and kept == sorted(set(kept) & set(range(images)))
                and isinstance(broken, list)
                and all(isinstance(line, str) for line in broken)
                and isinstance(fingerprint, str)
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return found if whole else None

    def _compute(
        self,
        images: Sequence[StoredImage],
        extract: Callable[[Tensor], Tensor],
        size: int,
        resize: Resize,
        name: str,
    ) -> dict[str, Any]:
        """Write the features, and return their description."""
        kept: list[int] = []
        broken: list[str] = []
        digest = hashlib.sha256()
        shape: tuple[int, ...] | None = None
        dtype = torch.float32
        with written(self.file, "features") as file:
            for start in tqdm(range(0, len(images), BATCH), desc=f"features of {name}", disable=None, leave=False):
                batch = torch.zeros(min(BATCH, len(images) - start), 3, size, size, dtype=torch.uint8)
                for number, image in enumerate(images[start : start + BATCH], start):
                    try:
                        batch[number - start] = load_image(image, size, resize)
                        kept.append(number)
                        digest.update(batch[number - start].numpy().tobytes())
                    except InputError as error:
                        broken.append(str(error))
                        check_broken(broken, len(images), name)
                features = extract(batch).cpu()
                shape, dtype = tuple(features.shape[1:]), features.dtype
                file.write(features.contiguous().view(torch.uint8).numpy().tobytes())
            if shape is None:
                raise InputError(f"there are no {name}: expected one or more")
            description = {
                "shape": [len(images), *shape],
                "dtype": str(dtype).removeprefix("torch."),
                "kept": kept,
                "broken": broken,
                "fingerprint": digest.hexdigest(),
            }
            # Before the features, which are whole once they have their name.
            with written(self._description, "features") as file_of_description:
                file_of_description.write(json.dumps(description).encode())
        return description


def _digest(images: Sequence[StoredImage], encoder: str, size: int, resize: Resize) -> str:
    digest = hashlib.sha256(f"{encoder} {size} {resize}".encode())
    for image in images:
        digest.update(hashlib.sha256(_told(image)).digest())
    return digest.hexdigest()[:32]


def _told(image: StoredImage) -> bytes:
    """What tells an image from others."""
    try:
        content = image.fetch()
        if isinstance(content, Path):
            status = content.stat()
            return os.fsencode(content.resolve()) + f" {status.st_size} {status.st_mtime_ns}".encode()
    except (InputError, OSError):
        return b"missing"  # it is reported where it is read
    if isinstance(content, bytes):
        return content
    return f"{content.mode} {content.size} {content.getpalette()}".encode() + content.tobytes()
