"""Many-to-many: one network reads a sequence, another writes one."""

from zoo.seq2seq.encoder import RecurrentEncoder
from zoo.seq2seq.translator import Translation, TranslationBatch, Translator

__all__ = ["RecurrentEncoder", "Translation", "TranslationBatch", "Translator"]
