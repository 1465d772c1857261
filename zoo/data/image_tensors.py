"""Images as tensors: read, brought to one size, and kept in memory where they fit."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from tqdm import tqdm

from zoo.data.images import ImageLike, Resize, image_tensor, read_image
from zoo.data.stored_images import StoredImage
from zoo.errors import InputError

BATCH = 64
"""How many images are read and worked on at a time."""

MEMORY = 1 << 30  # bytes

MOST_BROKEN = 0.01


def image_batches(images: Iterable[ImageLike], size: int, resize: Resize) -> Iterator[Tensor]:
    """Images, some at a time, in their order: (B, 3, size, size) uint8.

    Raises:
        InputError: something is no image; those before it come first.
    """
    remaining = iter(images)
    while several := list(islice(remaining, BATCH)):
        yield torch.stack([image_tensor(read_image(image), size, resize) for image in several])


def load_image(image: StoredImage, size: int, resize: Resize) -> Tensor:
    """A stored image, (3, size, size) uint8. Raises InputError, which names the image's place, if it is broken."""
    return image_tensor(read_image(image.fetch(), image.place), size, resize)


class ImageTensors:
    """The tensors of N images, (3, size, size) uint8; all are read once, so that broken ones are known beforehand.

    Args:
        images: N images.
        size: height and width, in pixels.
        resize: see `zoo.data.images.image_tensor`.
        name: what to call them, such as "training images".
        memory: images that take no more bytes than this are kept; of others each is read again when it is needed.

    Attributes:
        kept: the numbers of the images that could be read.
        broken: what is wrong with the others, one line each.
        fingerprint: tells these images, of this size, from others.

    Raises:
        InputError: more than 1 % cannot be read, or there are none.
    """

    def __init__(
        self, images: Sequence[StoredImage], size: int, resize: Resize, name: str, memory: int = MEMORY
    ) -> None:
        self._images, self.size, self.resize = images, size, resize
        self.kept: list[int] = []
        self.broken: list[str] = []
        digest = hashlib.sha256()
        fits = len(images) * 3 * size * size <= memory
        self._tensors = torch.empty(len(images), 3, size, size, dtype=torch.uint8) if fits else None
        for number, image in enumerate(tqdm(images, desc=f"reading {name}", unit=" images", disable=None, leave=False)):
            try:
                tensor = load_image(image, size, resize)
            except InputError as error:
                self.broken.append(str(error))
                check_broken(self.broken, len(images), name)
                continue
            self.kept.append(number)
            digest.update(tensor.numpy().tobytes())
            if self._tensors is not None:
                self._tensors[number] = tensor
        if not self.kept:
            raise InputError(f"there are no {name}: expected one or more")
        self.fingerprint = digest.hexdigest()

    def __call__(self, numbers: Sequence[int]) -> Tensor:
        """Images by their numbers: (B, 3, size, size) uint8."""
        if self._tensors is not None:
            return self._tensors[list(numbers)]
        return torch.stack([load_image(self._images[number], self.size, self.resize) for number in numbers])


def check_broken(broken: Sequence[str], count: int, name: str) -> None:
    """Raise InputError if more than 1 % of `count` images are broken."""
    if len(broken) > MOST_BROKEN * count:
        raise InputError(
            f"more than {MOST_BROKEN:.0%} of the {count:,} {name} cannot be read ({broken[0]}): mend or remove them"
        )
