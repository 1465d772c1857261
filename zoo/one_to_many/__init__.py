"""One-to-many: one input unrolls into a sequence."""

from zoo.one_to_many.image_captioner import Caption, CaptionBatch, ImageCaptioner
from zoo.one_to_many.interpolated_generator import InterpolatedGenerator
from zoo.one_to_many.markov_generator import MarkovGenerator
from zoo.one_to_many.text_generator import TextGenerator

__all__ = ["Caption", "CaptionBatch", "ImageCaptioner", "InterpolatedGenerator", "MarkovGenerator", "TextGenerator"]
