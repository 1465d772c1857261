"""Images with captions or labels, which are read only when they are needed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image


class StoredImage(NamedTuple):
    """An image that has not been read yet.

    Attributes:
        place: what a message calls it: its path, or "photos.parquet, row 3".
        content: its file, the file's bytes, a picture already in memory, or what fetches one of these.
    """

    place: str
    content: Path | bytes | Image.Image | Callable[[], Path | bytes | Image.Image]

    def fetch(self) -> Path | bytes | Image.Image:
        """Its file, the file's bytes, or the picture."""
        return self.content() if callable(self.content) else self.content


@dataclass(frozen=True)
class CaptionedImages:
    """N images and the captions of each, one or more.

    `is_true(n, caption)` says whether a caption is true of image n, where the data can tell.
    """

    images: list[StoredImage]
    captions: list[list[str]]
    is_true: Callable[[int, str], bool] | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class LabelledImages:
    """N images and the label of each."""

    images: list[StoredImage]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class CaptionData:
    """Images to train, validate and test a captioner on; `name` is what the user called the data.

    `notes` are remarks of one line each that a reader of the results should know.
    """

    name: str
    train: CaptionedImages
    validation: CaptionedImages
    tests: dict[str, CaptionedImages] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ImageLabelData:
    """Images to train, validate and test an image classifier on; see `CaptionData`.

    `labels` are all labels of the training images, sorted (as numbers, if all are integers).
    """

    name: str
    train: LabelledImages
    validation: LabelledImages
    tests: dict[str, LabelledImages]
    labels: list[str]
    notes: list[str] = field(default_factory=list)
