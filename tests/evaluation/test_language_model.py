"""Nats a token, against loops by hand that read one token at a time."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import zoo.evaluation.language_model
from zoo.evaluation import carried_nats, window_nats
from zoo.one_to_many import TextGenerator

VOCABULARY = 11


def make_model(cell: str = "lstm") -> TextGenerator:
    torch.manual_seed(1)
    model = TextGenerator(
        vocab_size=VOCABULARY, embedding_size=5, hidden_size=7, num_layers=2, cell=cell, ngram_order=3, ngram_buckets=13
    )
    return model.eval()


def tokens_of(length: int) -> Tensor:
    return torch.randint(VOCABULARY, (length,), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def nats_by_hand(model: TextGenerator, tokens: Tensor) -> list[float]:
    """Of every token but the first, each after all that stand before it."""
    state, nats = model.decoder.initial_state(1), []
    for token, following in itertools.pairwise(tokens):
        logits, state = model.decoder.step(token[None], state)
        nats.append(float(-F.log_softmax(logits[0].double(), dim=0)[following]))
    return nats


@pytest.mark.parametrize("cell", ["lstm", "gru", "mingru"])
@pytest.mark.parametrize("length", [2, 17, 18, 40])  # one token, just one chunk, one more, several and a rest
def test_carried_nats_of_one_row(monkeypatch: pytest.MonkeyPatch, cell: str, length: int) -> None:
    monkeypatch.setattr(zoo.evaluation.language_model, "CHUNK", 16)
    model, tokens = make_model(cell), tokens_of(length)
    nats = nats_by_hand(model, tokens)
    assert carried_nats(model, tokens) == pytest.approx(sum(nats) / len(nats), rel=1e-5)


def test_carried_nats_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = make_model(), tokens_of(50)
    whole = carried_nats(model, tokens)
    monkeypatch.setattr(zoo.evaluation.language_model, "CHUNK", 7)
    assert carried_nats(model, tokens) == pytest.approx(whole, rel=1e-5)


def test_carried_nats_of_several_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo.evaluation.language_model, "CHUNK", 4)
    model, tokens = make_model(), tokens_of(35)
    # 34 predictions, 11 a row; the last is left out.
    nats = [nat for start in (0, 11, 22) for nat in nats_by_hand(model, tokens[start : start + 12])]
    assert carried_nats(model, tokens, rows=3) == pytest.approx(sum(nats) / 33, rel=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 12, 10_000])
def test_window_nats(monkeypatch: pytest.MonkeyPatch, batch_tokens: int) -> None:
    monkeypatch.setattr(zoo.evaluation.language_model, "BATCH_TOKENS", batch_tokens)
    model, tokens = make_model(), tokens_of(5 * 6 + 1)
    inputs, targets = tokens[:-1].view(5, 6), tokens[1:].view(5, 6)
    nats = [nat for row in range(5) for nat in nats_by_hand(model, tokens[6 * row : 6 * row + 7])]
    assert window_nats(model, inputs, targets) == pytest.approx(sum(nats) / 30, rel=1e-5)


def test_a_carried_state_is_worth_something_on_a_text_that_repeats() -> None:
    """The two figures are different things: only one knows what came before the window."""
    model, tokens = make_model(), tokens_of(61)
    inputs, targets = tokens[:-1].view(20, 3), tokens[1:].view(20, 3)
    assert carried_nats(model, tokens) != pytest.approx(window_nats(model, inputs, targets), rel=1e-4)


@pytest.mark.parametrize(("length", "rows"), [(0, 1), (1, 1), (3, 3)])
def test_too_few_tokens_are_refused(length: int, rows: int) -> None:
    with pytest.raises(ValueError, match=f"{length} tokens are too few for {rows} rows: expected at least {rows + 1}"):
        carried_nats(make_model("lstm"), torch.zeros(length, dtype=torch.long), rows)
