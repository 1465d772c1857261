"""The smallest batches that can be: one step, one token to choose from, nothing but ends. They train."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.core import ATTENTIONS, CELLS
from zoo.data.length_batches import pad
from zoo.many_to_one import TextClassifier
from zoo.many_to_one.text_classifier import TextBatch
from zoo.one_to_many import CaptionBatch, ImageCaptioner, TextGenerator
from zoo.one_to_one import ImageClassifier
from zoo.one_to_one.image_classifier import ImageBatch
from zoo.seq2seq import Translator
from zoo.seq2seq.translator import TranslationBatch

SIZES = {"embedding_size": 8, "hidden_size": 8}
DECODERS = [*((None, cell) for cell in CELLS), *((attention, "lstm") for attention in ATTENTIONS)]


def assert_trains(model: Any, batch: Any) -> float:
    """Its loss, from which every parameter that has a gradient has a finite one."""
    loss = model.loss(batch)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name
    return float(loss.detach())


def rows(*texts: list[int]) -> tuple[Tensor, Tensor]:
    return pad([torch.tensor(text) for text in texts])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("vocab_size", [1, 3])
def test_text_generator(vocab_size: int, cell: str, precision: torch.dtype) -> None:
    model = TextGenerator(vocab_size=vocab_size, cell=cell, num_layers=2, residual=True, ngram_order=3, **SIZES)
    for shape in ((1, 1), (3, 1), (1, 5)):
        tokens = torch.zeros(shape, dtype=torch.long)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = assert_trains(model, (tokens, tokens))
        assert loss == 0 or vocab_size > 1


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("pooling", ["last", "mean+max", "attention"])
@pytest.mark.parametrize("vocab_size", [1, 3])
def test_text_classifier(vocab_size: int, pooling: str, cell: str) -> None:
    for labels, options in ((["a", "b"], {}), (["a"], {"multi_label": True}), (["a", "b"], {"class_weights": [1, 9]})):
        model = TextClassifier(labels=labels, vocab_size=vocab_size, cell=cell, pooling=pooling, **SIZES, **options)
        for texts in ([[0]], [[0], [0, 0, 0]], [[0]] * 3):
            tokens, lengths = rows(*texts)
            none = torch.zeros(len(texts), len(labels)) if model.multi_label else torch.zeros(len(texts)).long()
            assert_trains(model, TextBatch(tokens, lengths, none))


@pytest.mark.parametrize(("attention", "cell"), DECODERS)
@pytest.mark.parametrize("vocab_size", [1, 3])
def test_translator(vocab_size: int, attention: str | None, cell: str) -> None:
    """A row of nothing is its end token, V."""
    options: dict[str, Any] = {"attention": attention, "cell": cell, "num_heads": 2, **SIZES}
    model = Translator(vocab_size=vocab_size, **options)
    end = vocab_size
    for sources, targets in (([[end]], [[end]]), ([[0, end], [end]], [[end], [end]]), ([[end]], [[0, 0, end]])):
        assert_trains(model, TranslationBatch(*rows(*sources), *rows(*targets)))


@pytest.mark.parametrize(("attention", "cell"), DECODERS)
def test_image_captioner(attention: str | None, cell: str) -> None:
    model = ImageCaptioner(vocab_size=1, image_size=16, attention=attention, cell=cell, num_heads=2, **SIZES)
    for captions in ([[1]], [[1], [0, 1]], [[1], [1], [1]]):
        assert_trains(model, CaptionBatch(torch.zeros(1, 3, 16, 16), *rows(*captions)))


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 3, 16, 16), torch.ones(2, 3, 16, 16), torch.full((1, 3, 16, 16), 255)]
)
def test_image_classifier(image: Tensor) -> None:
    """Images of one colour, whose features do not differ: batch norm divides by their deviation."""
    model = ImageClassifier(labels=["a", "b"], image_size=16)
    assert_trains(model, ImageBatch(image, torch.zeros(len(image)).long()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: (TextGenerator(vocab_size=3, **SIZES), (torch.zeros(2, 0).long(),) * 2),
        lambda: (TextGenerator(vocab_size=3, **SIZES), (torch.zeros(0, 2).long(),) * 2),
        lambda: (TextClassifier(labels=["a", "b"], vocab_size=3, **SIZES), TextBatch(*(torch.zeros(0).long(),) * 3)),
        lambda: (
            TextClassifier(labels=["a", "b"], vocab_size=3, **SIZES),
            TextBatch(torch.zeros(1, 1).long(), torch.zeros(1).long(), torch.zeros(1).long()),
        ),
        lambda: (
            Translator(vocab_size=3, num_heads=2, **SIZES),
            TranslationBatch(*rows([3], [3]), torch.zeros(2, 1).long(), torch.zeros(2).long()),
        ),
        lambda: (
            ImageCaptioner(vocab_size=3, image_size=16, num_heads=2, **SIZES),
            CaptionBatch(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1).long(), torch.zeros(1).long()),
        ),
        lambda: (
            ImageClassifier(labels=["a", "b"], image_size=16),
            ImageBatch(torch.zeros(0, 3, 16, 16), torch.zeros(0).long()),
        ),
    ],
)
def test_a_batch_without_a_target_is_refused(make: Callable[[], tuple[nn.Module, Any]]) -> None:
    model, batch = make()
    with pytest.raises(ValueError, match=r"but must (be|have)|must be 1 to"):
        model.loss(batch)  # type: ignore[operator]
