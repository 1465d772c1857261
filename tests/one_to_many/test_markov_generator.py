import math
from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import TextTokenizer
from zoo.one_to_many.markov_generator import MarkovGenerator


def sized(vocab_size: int) -> TextTokenizer:
    """All that counting needs of a tokenizer."""
    return cast(TextTokenizer, SimpleNamespace(vocab_size=vocab_size))


class PlainKneserNey:
    """The plain twin: the formula with dicts of tuples, one probability at a time."""

    def __init__(self, tokens: list[int], order: int, vocab_size: int) -> None:
        self.order, self.vocab_size = min(order, len(tokens)), vocab_size
        self.counts: list[Counter[tuple[int, ...]]] = []  # for n = 1 to order: {n-gram: adjusted count}
        for n in range(1, self.order + 1):
            grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
            if n < self.order:
                longer = {tuple(tokens[i : i + n + 1]) for i in range(len(tokens) - n)}
                grams = Counter(gram[1:] for gram in longer)
            self.counts.append(grams)
        self.after: list[
            dict[tuple[int, ...], dict[int, int]]
        ] = []  # for n = 1 to order: {context: {token: adjusted count}}
        for grams in self.counts:
            after: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
            for gram, count in grams.items():
                after[gram[:-1]][gram[-1]] = count
            self.after.append(after)

    def discount(self, n: int, count: int) -> float:
        counts_of_counts = Counter(self.counts[n - 1].values())
        n1, n2, n3, n4 = (counts_of_counts[c] for c in (1, 2, 3, 4))
        d = [0.5, 1.0, 1.5]
        if n1 and n2 and n3 and n4:
            y = n1 / (n1 + 2 * n2)
            estimates = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            d = estimates if min(estimates) > 0 else d
        return d[min(count, 3) - 1]

    def probability(self, token: int, context: list[int]) -> float:
        if len(context) >= self.order:
            return self.probability(token, context[len(context) - self.order + 1 :])
        shorter = self.probability(token, context[1:]) if context else 1 / self.vocab_size
        n = len(context) + 1
        after = self.after[n - 1].get(tuple(context))
        if not after:
            return shorter
        total = sum(after.values())
        kept = after[token] - self.discount(n, after[token]) if token in after else 0.0
        return kept / total + sum(self.discount(n, c) for c in after.values()) / total * shorter


def fitted(tokens: list[int], order: int, vocab_size: int) -> MarkovGenerator:
    return MarkovGenerator(tokenizer=sized(vocab_size), order=order).fit(torch.tensor(tokens))


def distribution(model: MarkovGenerator, context: list[int]) -> torch.Tensor:
    """One context, read by `prefill` -> (V,) float64 probabilities."""
    logits, _ = model.prefill(torch.tensor([context], dtype=torch.long), torch.tensor([len(context)]))
    return logits[0].double().exp()


def skewed(length: int, vocab_size: int, seed: int) -> list[int]:
    """Tokens of a Markov chain with few likely successors: has counts of 1, 2, 3 and 4 at every order."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(vocab_size, vocab_size, generator=generator).pow(8)
    tokens = [0]
    for _ in range(length - 1):
        tokens.append(int(torch.multinomial(rows[tokens[-1]], 1, generator=generator)))
    return tokens


VOCAB = 5
ids = st.integers(0, VOCAB - 1)
texts = st.lists(ids, min_size=1, max_size=60)


@settings(deadline=None, max_examples=60)
@given(texts, st.lists(ids, max_size=7), st.integers(1, 6))
def test_every_distribution_sums_to_one_and_is_positive(tokens: list[int], context: list[int], order: int) -> None:
    probabilities = distribution(fitted(tokens, order, VOCAB), context)
    assert abs(probabilities.sum().item() - 1) < 1e-6
    assert (probabilities > 0).all()


@settings(deadline=None, max_examples=60)
@given(texts, st.lists(ids, max_size=7), st.integers(1, 6))
def test_equals_the_plain_twin(tokens: list[int], context: list[int], order: int) -> None:
    twin = PlainKneserNey(tokens, order, VOCAB)
    expected = torch.tensor([twin.probability(w, context) for w in range(VOCAB)], dtype=torch.float64)
    torch.testing.assert_close(distribution(fitted(tokens, order, VOCAB), context), expected, atol=0, rtol=1e-5)


@pytest.mark.parametrize(("order", "vocab_size"), [(1, 12), (2, 24), (3, 12), (5, 12)])
def test_equals_the_plain_twin_with_estimated_discounts(order: int, vocab_size: int) -> None:
    tokens = skewed(600, vocab_size, seed=order)
    twin = PlainKneserNey(tokens, order, vocab_size)
    if order > 1:
        assert twin.discount(order, 1) != 0.5, "this text should have all four counts of counts"
    model = fitted(tokens, order, vocab_size)
    for end in (0, 1, 2, 9, 200, 600):
        plain = [twin.probability(w, tokens[:end]) for w in range(vocab_size)]
        expected = torch.tensor(plain, dtype=torch.float64)
        torch.testing.assert_close(distribution(model, tokens[:end]), expected, atol=0, rtol=1e-5)
    other = skewed(80, vocab_size, seed=100)
    nats = -sum(math.log(twin.probability(w, other[:t])) for t, w in enumerate(other)) / len(other)
    assert model.nats_per_token(torch.tensor(other)) == pytest.approx(nats, rel=1e-10)


def test_a_hand_computed_bigram() -> None:
    # abab: c(a, b) = 2, c(b, a) = 1. Only a stands before b and only b before a: one of 2 continuations each.
    # Unigram: a = b = (1 - 0.5) / 2 + 0.5 / 3. After a: b = (2 - 1) / 2 + 1 / 2 * unigram(b).
    unigram = 0.25 + 0.5 / 3
    after_a = distribution(fitted([0, 1, 0, 1], 2, 3), [0]).tolist()
    assert after_a == pytest.approx([unigram / 2, 0.5 + unigram / 2, 0.5 / 3 / 2])


def test_prefill_then_steps_equals_prefill_of_all() -> None:
    model = fitted(skewed(300, 6, seed=1), 4, 6)
    text = torch.tensor([skewed(12, 6, seed=2), skewed(12, 6, seed=3)])
    logits, state = model.prefill(text[:, :1], torch.tensor([1, 0]))
    reads: list[list[int]] = [[0], []]
    for t in range(1, 12):
        logits, state = model.step(text[:, t], state)
        for row in range(2):
            reads[row].append(t)
            whole, whole_state = model.prefill(text[row : row + 1, reads[row]], torch.tensor([len(reads[row])]))
            assert torch.equal(logits[row], whole[0])
            assert torch.equal(state[0][:, row], whole_state[0][:, 0])


def test_a_row_does_not_depend_on_its_batch_or_its_padding() -> None:
    model = fitted(skewed(300, 6, seed=1), 4, 6)
    rows = [skewed(n, 6, seed=n) for n in (7, 1, 4)] + [[]]
    tokens = torch.full((4, 7), 999)
    for row, ids_ in enumerate(rows):
        tokens[row, : len(ids_)] = torch.tensor(ids_)
    logits, (history,) = model.prefill(tokens, torch.tensor([len(row) for row in rows]))
    assert logits.shape == (4, 6)
    assert logits.dtype == torch.float32
    assert history.shape == (3, 4)
    assert history.dtype == torch.int64
    assert history[:, 0].tolist() == rows[0][-3:]
    assert history[:, 1].tolist() == [-1, -1, *rows[1]]
    assert history[:, 3].tolist() == [-1, -1, -1]
    for row, ids_ in enumerate(rows):
        alone, _ = model.prefill(torch.tensor([ids_], dtype=torch.long), torch.tensor([len(ids_)]))
        assert torch.equal(logits[row], alone[0])


def test_nats_per_token_is_the_average_over_prefills() -> None:
    model = fitted(skewed(300, 6, seed=1), 4, 6)
    text = skewed(50, 6, seed=9)
    nats = -sum(math.log(distribution(model, text[:t])[w]) for t, w in enumerate(text)) / len(text)
    assert model.nats_per_token(torch.tensor(text)) == pytest.approx(nats, rel=1e-6)


@pytest.mark.parametrize("order", [1, 3])
def test_state_of_every_order_keeps_its_shape(order: int) -> None:
    model = fitted([0, 1, 2, 0, 1], order, 3)
    _, state = model.prefill(torch.tensor([[0, 1], [2, 0]]), torch.tensor([2, 2]))
    logits, after = model.step(torch.tensor([1, 1]), state)
    assert state[0].shape == after[0].shape == (order - 1, 2)
    assert logits.shape == (2, 3)


def test_large_vocabulary_and_high_order_do_not_overflow() -> None:
    tokens = torch.randint(50_000, (3_000,), generator=torch.Generator().manual_seed(0)).tolist()
    model = fitted(tokens, 12, 50_000)
    after = distribution(model, tokens[:20])
    assert after.argmax() == tokens[20]
    assert abs(after.sum().item() - 1) < 1e-6


def test_a_higher_order_predicts_a_repeating_text_better() -> None:
    tokens = [0, 1, 0, 2, 0, 1, 1, 2] * 40
    nats = [fitted(tokens, order, 3).nats_per_token(torch.tensor(tokens)) for order in (1, 2, 4)]
    assert nats[0] > nats[1] > nats[2]


def test_fit_is_deterministic_and_replaces_the_earlier_fit() -> None:
    first, second = skewed(200, 6, seed=1), skewed(200, 6, seed=2)
    twice = fitted(first, 3, 6).fit(torch.tensor(second))
    context = torch.tensor([[0, 1]]), torch.tensor([2])
    assert torch.equal(twice.prefill(*context)[0], fitted(second, 3, 6).prefill(*context)[0])


def test_generates_and_streams_text() -> None:
    text = "abcd" * 20
    tokenizer = TextTokenizer.train([text], level="char")
    model = MarkovGenerator(tokenizer=tokenizer, order=4).fit(torch.tensor(tokenizer.encode(text)))
    assert model.generate("abc", max_new_tokens=5, top_k=1) == "dabcd"
    assert model.generate(["abc", "b"], max_new_tokens=5, top_k=1) == ["dabcd", "cdabc"]
    assert "".join(model.stream("abc", max_new_tokens=5, top_k=1)) == "dabcd"


def test_errors_say_what_was_given_and_expected() -> None:
    with pytest.raises(ValueError, match="order is 0"):
        MarkovGenerator(tokenizer=sized(3), order=0)
    with pytest.raises(ValueError, match="vocab_size 0"):
        MarkovGenerator(tokenizer=sized(0))
    model = MarkovGenerator(tokenizer=sized(3), order=3)
    one_row = torch.tensor([[0, 1]])
    for use in (
        lambda: model.nats_per_token(torch.tensor([0])),
        lambda: model.prefill(one_row, torch.tensor([2])),
        lambda: model.generate("a"),
        lambda: model.stream("a"),
    ):
        with pytest.raises(RuntimeError, match="call fit"):
            use()
    for tokens, message in (
        (torch.tensor([], dtype=torch.long), "at least one token"),
        (torch.tensor([[0, 1]]), r"shape \(1, 2\)"),
        (torch.tensor([0.0, 1.0]), "dtype torch.float32"),
        (torch.tensor([0, 3]), "ids go from 0 to 3"),
        (torch.tensor([-1, 2]), "ids go from -1 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(tokens)
    model.fit(torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match=r"expected \(B, T\) and \(B,\)"):
        model.prefill(torch.tensor([0, 1]), torch.tensor([2]))
    with pytest.raises(ValueError, match="expected 0 to 2"):
        model.prefill(one_row, torch.tensor([3]))
    with pytest.raises(ValueError, match="ids go from 0 to 7"):
        model.prefill(torch.tensor([[0, 7]]), torch.tensor([2]))
    _, state = model.prefill(one_row, torch.tensor([2]))
    with pytest.raises(ValueError, match="the state has 1 rows"):
        model.step(torch.tensor([0, 1]), state)
    with pytest.raises(ValueError, match=r"expected \(2, 1\)"):
        model.next_log_probabilities((torch.zeros(5, 1, dtype=torch.long),))
