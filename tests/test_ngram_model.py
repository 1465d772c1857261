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
@given(texts, st.lists(st.integers(0, VOCAB - 1), min_size=3, max_size=40), st.integers(1, 5), st.data())
def test_windows_of_a_text_with_the_state_handed_on(
    seen: list[int], text: list[int], order: int, data: st.DataObject
) -> None:
    model, tokens = NgramModel(VOCAB, order).fit(torch.tensor(seen)), torch.tensor(text)
    cut = data.draw(st.integers(1, len(text) - 2))
    whole = model.log_probabilities(tokens)[1:]
    first, state = model.window_log_probabilities(tokens[None, :cut], tokens[None, 1 : cut + 1])
    second, state = model.window_log_probabilities(tokens[None, cut:-1], tokens[None, cut + 1 :], state)
    assert torch.equal(torch.cat([first, second], dim=1)[0], whole)
    _, expected = model.prefill(tokens[None, :-1], torch.tensor([len(text) - 1]))
    assert torch.equal(state[0], expected[0])


def test_windows_side_by_side_are_those_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    model = NgramModel(VOCAB, 3).fit(torch.randint(VOCAB, (200,), generator=generator))
    inputs, targets = torch.randint(VOCAB, (2, 4, 9), generator=generator)
    together, state = model.window_log_probabilities(inputs, targets)
    for row in range(4):
        alone, end = model.window_log_probabilities(inputs[row, None], targets[row, None])
        assert torch.equal(together[row, None], alone)
        assert torch.equal(state[0][:, row, None], end[0])
    # Any token may be asked for, not only the one that comes next.
    logits, _ = model.prefill(inputs, torch.full((4,), 9))
    assert torch.allclose(together[:, -1], logits.gather(1, targets[:, -1:])[:, 0].double(), atol=1e-5)


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
    with pytest.raises(ValueError, match="order is 65: expected 1 to 64"):
        NgramModel(3, 65)
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
    ids, state = torch.tensor([[0, 1]]), (torch.zeros(1, 2, dtype=torch.long),)
    for inputs, targets, before, message in (
        (ids[:, :0], ids[:, :0], None, r"expected \(B, T\) for both"),
        (ids, ids[:, :1], None, r"expected \(B, T\) for both"),
        (ids, ids, state, r"the state has shape \(1, 2\): expected \(1, 1\)"),
        (ids, ids + 3, None, "the vocabulary has ids 0 to 2"),
        (ids + 3, ids, None, "the vocabulary has ids 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            model.window_log_probabilities(inputs, targets, before)
    with pytest.raises(ValueError, match=r"the state has shape \(1, 2\): expected \(1, 3\)"):
        model.log_probabilities_after(state, torch.tensor([0, 1, 2]))
