"""The n-gram model by itself; tests/one_to_many/test_markov_generator.py compares its figures with a plain twin."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.ngram_model import NgramModel

VOCAB = 5
texts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=40)


@settings(deadline=None, max_examples=40)
@given(texts, texts, st.integers(1, 5))
def test_log_probabilities_are_those_of_stepping_through_the_text(seen: list[int], text: list[int], order: int) -> None:
    model = NgramModel(VOCAB, order).fit(torch.tensor(seen))
    found = model.log_probabilities(torch.tensor(text))
    assert found.shape == (len(text),)
    assert found.dtype == torch.float64
    logits, state = model.prefill(torch.empty(1, 0, dtype=torch.long), torch.tensor([0]))
    for position, token in enumerate(text):
        assert torch.equal(logits, model.next_log_probabilities(state))
        assert found[position].item() == pytest.approx(logits[0, token].item(), rel=1e-5)
        logits, state = model.step(torch.tensor([token]), state)


@settings(deadline=None, max_examples=40)
@given(texts, texts, st.integers(1, 5))
def test_nats_per_token_is_minus_their_mean(seen: list[int], text: list[int], order: int) -> None:
    model = NgramModel(VOCAB, order).fit(torch.tensor(seen))
    total = model.log_probabilities(torch.tensor(text)).sum().item()
    assert model.nats_per_token(torch.tensor(text)) == pytest.approx(-total / len(text), rel=1e-12)


def test_a_token_depends_on_those_before_it_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    model = NgramModel(VOCAB, 3).fit(torch.randint(VOCAB, (200,), generator=generator))
    text = torch.randint(VOCAB, (30,), generator=generator)
    whole = model.log_probabilities(text)
    for end in (1, 2, 3, 17):
        assert torch.equal(model.log_probabilities(text[:end]), whole[:end])
    assert torch.equal(model.log_probabilities(text[10:])[2:], whole[12:])  # two tokens are all the context there is
    assert not torch.equal(model.log_probabilities(text[10:])[:2], whole[10:12])


def test_a_hand_computed_bigram() -> None:
    # As in test_markov_generator: of abab, a = b = 0.25 + 0.5 / 3 without context, and 0.5 + half of that for ab.
    unigram = 0.25 + 0.5 / 3
    found = NgramModel(3, 2).fit(torch.tensor([0, 1, 0, 1])).log_probabilities(torch.tensor([0, 1])).exp().tolist()
    assert found == pytest.approx([unigram, 0.5 + unigram / 2])


def test_errors_say_what_was_given_and_expected() -> None:
    with pytest.raises(ValueError, match="order is 0"):
        NgramModel(3, 0)
    with pytest.raises(ValueError, match="vocab_size 0"):
        NgramModel(0, 3)
    model = NgramModel(3, 2)
    with pytest.raises(RuntimeError, match="this NgramModel has no counts yet: call fit"):
        model.log_probabilities(torch.tensor([0]))
    model.fit(torch.tensor([0, 1, 2]))
    for tokens, message in (
        (torch.tensor([], dtype=torch.long), "at least one token"),
        (torch.tensor([[0, 1]]), r"shape \(1, 2\)"),
        (torch.tensor([0.0]), "dtype torch.float32"),
        (torch.tensor([3]), "the vocabulary has ids 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            model.log_probabilities(tokens)
