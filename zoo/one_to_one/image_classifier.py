"""One-to-one: an image goes in, its label comes out. The encoder alone, which can then start a captioner."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.dropout import check_probability
from zoo.data.image_tensors import image_batches
from zoo.data.images import ImageLike, Resize, check_resize
from zoo.one_to_one.image_encoder import SMALL, FeatureExtractor, ImageEncoder
from zoo.pretrained import PretrainedModel, evaluating


class ImageBatch(NamedTuple):
    """Images (B, 3, height, width), uint8 or floats from 0 to 1, or the features (B, S, M) that the encoder made of
    them; and the numbers of their labels, (B,) int64."""

    images: Tensor
    targets: Tensor


class ImageClassification(NamedTuple):
    """What an image was classified as.

    Attributes:
        label: the most probable label.
        probability: how probable the model takes it to be.
        ranking: the most probable labels with their probabilities, as many as `top_k` asked for.
    """

    label: str
    probability: float
    ranking: tuple[tuple[str, float], ...]


class ImageClassifier(PretrainedModel):
    """An image classifier: `ImageEncoder` → the mean of its grid → a score for each label.

    Args:
        labels: C names, in the order of the scores.
        backbone, image_size, fixed: see `ImageEncoder`. Its weights are random, whatever the backbone: `encoder.load`
            takes others over, and fixes it.
        resize: how an image is brought to image_size: `squash`, all of it, or `crop`, the square in its middle.
        dropout: on the mean.
        label_smoothing: this share of each target is spread over all labels (Szegedy et al., 2016).

    Raises:
        ValueError: fewer than two labels or one twice, an unknown backbone or resize, or a size or probability out of
            range.
    """

    tokenizer_files: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        *,
        labels: Sequence[str],
        backbone: str = SMALL,
        image_size: int = 64,
        resize: Resize = "squash",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        fixed: bool = False,
    ) -> None:
        super().__init__()
        labels = list(labels)
        if len(set(labels)) < len(labels) or len(labels) < 2:
            raise ValueError(f"labels are {labels}, but must be two or more different ones")
        check_resize(resize)
        check_probability("dropout", dropout)
        check_probability("label_smoothing", label_smoothing)
        self.config = {
            "labels": labels,
            "backbone": backbone,
            "image_size": image_size,
            "resize": resize,
            "dropout": dropout,
            "label_smoothing": label_smoothing,
            "fixed": fixed,
        }
        self.tokenizer = None
        self.labels = labels
        self.resize = resize
        self.label_smoothing = label_smoothing
        self.encoder = ImageEncoder(backbone, image_size, fixed)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.encoder.feature_size, len(labels))
        nn.init.zeros_(self.output.bias)

    def save_pretrained(self, folder: str | Path) -> None:
        """As of every model, and whether the encoder is fixed by now. Raises OSError if it cannot be written."""
        self.config["fixed"] = self.encoder.fixed
        super().save_pretrained(folder)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, height, width), or their features (B, S, M) -> a score for each label (B, C), float32.

        Raises ValueError for images of another size, or features of another grid.
        """
        features = self.encoder.features_of(images)
        scores = self.output(self.dropout(features.mean(dim=1, dtype=self.output.weight.dtype)))
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def loss(self, batch: ImageBatch) -> Tensor:
        """Mean cross-entropy of the labels, a scalar. Raises ValueError for a batch of no images, which has no mean."""
        if not len(batch.targets):
            raise ValueError("the batch has no images, but must have at least one to take the mean of")
        return F.cross_entropy(self(batch.images), batch.targets, label_smoothing=self.label_smoothing)

    def classify(self, image: ImageLike | Sequence[ImageLike], top_k: int = 1) -> Any:
        """Classify an image or a list of images: paths, PIL images, arrays or tensors; see `zoo.data.images`.

        Args:
            image: one image, or a list or tuple of them.
            top_k: how many labels `ranking` is to have; more than there are gives all.

        Returns:
            An `ImageClassification`, or a list of them if several images were given.

        Raises:
            InputError: something is no image.
            ValueError: `top_k` is below 1.
        """
        _check_top_k(top_k)
        several = isinstance(image, (list, tuple))
        images: Any = image if several else [image]
        features = FeatureExtractor(self.encoder)
        batches = image_batches(images, self.encoder.image_size, self.resize)
        found = [one for batch in batches for one in self.classify_batch(features(batch), top_k)]
        return found if several else found[0]

    def classify_batch(self, images: Tensor, top_k: int = 1) -> list[ImageClassification]:
        """`classify` for B images, or their features, as `forward` takes them."""
        _check_top_k(top_k)
        return [self._classification(row, top_k) for row in self.probabilities(images)]

    def probabilities(self, images: Tensor) -> Tensor:
        """Each label's probability: images, or their features, as `forward` takes them -> (B, C) float32 on the CPU."""
        with evaluating(self), torch.inference_mode():
            return self(images.to(self.output.weight.device)).softmax(dim=-1).float().cpu()

    def _classification(self, probabilities: Tensor, top_k: int) -> ImageClassification:
        values, numbers = probabilities.sort(descending=True, stable=True)
        ranking = [(self.labels[n], p) for n, p in zip(numbers.tolist(), values.tolist(), strict=True)]
        return ImageClassification(*ranking[0], tuple(ranking[:top_k]))


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}, but must be at least 1")
