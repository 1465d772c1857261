"""A classifier that counts: Bayes' rule over an n-gram language model a class, the `TextClassifier` baseline."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from zoo.ngram_model import NgramModel

# A row of texts is scored so many tokens at a time, which bounds the memory whatever the texts' number and length.
CHUNK_TOKENS = 1 << 20


class NgramClassifier:
    """The label c under which a text is likeliest: p(c | text) is proportional to p(c) · p(text | c).

    p(text | c) is that of an `NgramModel` fitted to the texts of class c: the product over the text's tokens and
    its end. p(c) = (examples of c + 1) / (examples + C).

    Source: Peng, Schuurmans & Wang, "Augmenting naive Bayes classifiers with statistical language models" (2004).

    Args:
        vocab_size: V; token ids are in [0, V).
        num_labels: C, the number of classes.
        order: n, the longest n-gram that is counted; a context has up to n-1 tokens.

    Raises:
        ValueError: an argument is less than 1, or `order` more than 64.
    """

    def __init__(self, vocab_size: int, num_labels: int, order: int = 5) -> None:
        if vocab_size < 1 or num_labels < 1:
            raise ValueError(f"vocab_size is {vocab_size} and num_labels {num_labels}: expected at least 1")
        self.vocab_size = vocab_size
        self.num_labels = num_labels
        self.order = order
        self.boundary = vocab_size  # the id that stands before and after each text
        self._models = [NgramModel(vocab_size + 1, order) for _ in range(num_labels)]
        self._log_prior = torch.empty(0, dtype=torch.float64)

    def fit(self, rows: Sequence[Tensor], labels: Sequence[int]) -> Self:
        """Counts the n-grams of each class, whatever the order of its texts; an earlier fit is replaced.

        Args:
            rows: N texts, each (T,) integers in [0, V), of any lengths, none included.
            labels: N integers in [0, C): the class of each text.

        Returns:
            This classifier.

        Raises:
            ValueError: there are no texts, or not as many labels as texts, a class has no text, a label or an id
                is out of its range, or a text is not one row of integers.
        """
        if len(rows) != len(labels):
            raise ValueError(f"there are {len(rows)} texts and {len(labels)} labels: expected a label for each text")
        self._check(rows)
        for number, label in enumerate(labels):
            if not 0 <= label < self.num_labels:
                raise ValueError(f"label {number} is {label}: expected 0 to {self.num_labels - 1}")
        by_label: list[list[Tensor]] = [[] for _ in self._models]
        for row, label in zip(rows, labels, strict=True):
            by_label[label].append(row)
        empty = [label for label, texts in enumerate(by_label) if not texts]
        if empty:
            raise ValueError(f"no text has label {empty[0]}: give examples of every class, or leave the class out")
        for model, texts in zip(self._models, by_label, strict=True):
            tokens, _ = self._join(texts)
            model.fit(tokens)
        counts = torch.tensor([len(texts) for texts in by_label], dtype=torch.float64)
        self._log_prior = ((counts + 1) / (len(rows) + self.num_labels)).log()
        return self

    def log_probabilities(self, rows: Sequence[Tensor]) -> Tensor:
        """How probable each class is, given each text.

        Args:
            rows: N texts, each (T,) integers in [0, V), of any lengths, none included.

        Returns:
            (N, C) float64 natural logarithms, on the CPU; the probabilities of a row sum to 1.

        Raises:
            ValueError: there are no texts, an id is out of its range, or a text is not one row of integers.
            RuntimeError: `fit` was not called.
        """
        if not len(self._log_prior):
            raise RuntimeError("this NgramClassifier has no counts yet: call fit(rows, labels) first")
        self._check(rows)
        tokens, texts = self._join(rows)
        scores = torch.zeros(self.num_labels, len(rows), dtype=torch.float64)
        for start in range(0, len(tokens), CHUNK_TOKENS):
            # The tokens before a chunk are read again, as the context of its first ones.
            context = min(start, self.order - 1)
            chunk = tokens[start - context : start + CHUNK_TOKENS]
            owners = texts[start : start + CHUNK_TOKENS]
            scored = owners >= 0
            for score, model in zip(scores, self._models, strict=True):
                score.index_add_(0, owners[scored], model.log_probabilities(chunk)[context:][scored])
        return (scores.T + self._log_prior).log_softmax(dim=1)

    def _join(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """All texts in one row, with n-1 boundaries (but at least one) between two and round them all.

        The boundary right after a text is its end; those before the next text are the context of its first tokens,
        so that no context reaches from one text into another.

        Returns:
            tokens: (M,) int64.
            texts: (M,) int64: the number of the text whose token or end this is, or -1.
        """
        front = torch.full((self.order - 1,), self.boundary)
        gap = torch.full((max(self.order - 1, 1),), self.boundary)
        tokens = torch.cat([front, *(part for row in rows for part in (row.long().cpu(), gap))])
        numbers = torch.arange(len(rows))
        sizes = torch.tensor([len(row) for row in rows]) + 1
        owners = torch.stack([numbers, torch.full_like(numbers, -1)], dim=1).flatten()
        repeats = torch.stack([sizes, torch.full_like(sizes, len(gap) - 1)], dim=1).flatten()
        return tokens, torch.cat([torch.full_like(front, -1), owners.repeat_interleave(repeats)])

    def _check(self, rows: Sequence[Tensor]) -> None:
        if not len(rows):
            raise ValueError("there are no texts: expected at least one")
        for number, row in enumerate(rows):
            if row.dim() != 1 or row.is_floating_point() or row.is_complex() or row.dtype == torch.bool:
                raise ValueError(
                    f"text {number} has shape {tuple(row.shape)} and dtype {row.dtype}: expected (T,) integer token ids"
                )
        ids = torch.cat(tuple(rows))
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocab_size:
            raise ValueError(
                f"token ids go from {int(ids.min())} to {int(ids.max())}: the vocabulary has ids 0 to "
                f"{self.vocab_size - 1}; encode the texts with the tokenizer this model was made for"
            )
