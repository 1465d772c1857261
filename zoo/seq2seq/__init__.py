"""Many-to-many: one network reads a sequence, another writes one."""

from zoo.seq2seq.encoder import Bridge, RecurrentEncoder
from zoo.seq2seq.translator import Translation, TranslationBatch, Translator

__all__ = ["Bridge", "RecurrentEncoder", "Translation", "TranslationBatch", "Translator"]
