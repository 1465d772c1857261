"""Many-to-one: a sequence is read into one answer."""

from zoo.many_to_one.explanation import Explanation
from zoo.many_to_one.ngram_classifier import NgramClassifier
from zoo.many_to_one.text_classifier import Classification, TextBatch, TextClassifier

__all__ = ["Classification", "Explanation", "NgramClassifier", "TextBatch", "TextClassifier"]
