"""One-to-one: image → label."""

from zoo.one_to_one.image_classifier import ImageBatch, ImageClassification, ImageClassifier
from zoo.one_to_one.image_encoder import ImageEncoder, backbones

__all__ = ["ImageBatch", "ImageClassification", "ImageClassifier", "ImageEncoder", "backbones"]
