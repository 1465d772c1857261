"""The bag of n-grams beside counting them one by one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.length_batches import pad
from zoo.many_to_one.bag_of_ngrams import BagOfNgrams

BUCKETS = 50_000  # so many that no two of these n-grams share a row


def ngrams(row, order):
    """In the order in which they end, each with the place where it first ends; "before the first" is -1."""
    found = {}
    padded = [-1] * (order - 1) + row
    for end in range(len(row)):
        for n in range(1, order + 1):
            found.setdefault(tuple(padded[end + order - n : end + order]), end)
    return found


def counted(rows, targets, order, num_labels):
    """{n-gram: its ratio with each label} by plain counting."""
    every = {ngram for row in rows for ngram in ngrams(row, order)}
    counts = {
        ngram: [
            1 + sum(t == c and ngram in ngrams(r, order) for r, t in zip(rows, targets, strict=True))
            for c in range(num_labels)
        ]
        for ngram in every
    }
    totals = [BUCKETS - len(every) + sum(count[c] for count in counts.values()) for c in range(num_labels)]
    logs = {
        ngram: [math.log(n / total) for n, total in zip(count, totals, strict=True)] for ngram, count in counts.items()
    }
    return {ngram: [value - sum(log) / num_labels for value in log] for ngram, log in logs.items()}


rows_and_targets = st.lists(
    st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=7), st.integers(0, 2)), min_size=1, max_size=8
)


@settings(max_examples=30, deadline=None)
@given(rows_and_targets, st.integers(1, 3))
def test_as_counted_one_by_one(examples, order):
    rows, targets = [row for row, _ in examples], [target for _, target in examples]
    bag = BagOfNgrams(3, order, BUCKETS).double()
    bag.count([torch.tensor(row) for row in rows], torch.tensor(targets))
    ratios = counted(rows, targets, order, 3)
    tokens, lengths = pad([torch.tensor(row) for row in rows])
    found = bag(tokens, lengths)
    for row, parts in zip(rows, found, strict=True):
        its = ngrams(row, order)
        expected = torch.zeros_like(parts)
        for ngram, end in its.items():
            expected[end] += torch.tensor(ratios[ngram], dtype=torch.float64) / math.sqrt(len(its))
        torch.testing.assert_close(parts, expected, atol=1e-5, rtol=1e-5)


def test_with_several_labels_a_text_a_ratio_is_with_to_without():
    bag = BagOfNgrams(2, 1, 3, multi_label=True)
    bag.count([torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1, 1])], torch.tensor([[1.0, 0], [1, 1], [0, 0]]))
    # Token 0, in row 2: label 0 with 1 + 2 and without 1 + 0; of all three rows 3 + 3 and 3 + 1.
    of_token_0 = bag(torch.tensor([[0]]), torch.tensor([1]))[0, 0]
    assert of_token_0.tolist() == pytest.approx([math.log(3 / 6) - math.log(1 / 4), math.log(2 / 4) - math.log(2 / 6)])


def test_what_is_counted_does_not_depend_on_how_many_at_once(monkeypatch):
    rows, targets = [torch.randint(5, (n % 6 + 1,)) for n in range(40)], torch.arange(40) % 3
    bags = [BagOfNgrams(3, 2, 100) for _ in range(2)]
    bags[0].count(rows, targets)
    monkeypatch.setattr("zoo.many_to_one.bag_of_ngrams.COUNTED_AT_ONCE", 7)
    bags[1].count(rows, targets)
    assert torch.equal(bags[0].ratios, bags[1].ratios) and bags[0].ratios.abs().max() > 0.1


def test_only_weights_of_what_is_there_learn():
    bag = BagOfNgrams(2, 1, 10)
    bag.count([torch.tensor([1, 2]), torch.tensor([3])], torch.tensor([0, 1]))
    bag(torch.tensor([[1, 9]]), torch.tensor([1])).sum(dim=1)[0, 0].backward()
    assert bag.weights.grad is not None and bag.weights.grad.count_nonzero() == 1


@pytest.mark.parametrize(
    ("order", "buckets", "message"), [(0, 9, "bag_order is 0"), (9, 9, "bag_order is 9"), (2, 0, "bag_buckets is 0")]
)
def test_what_is_wrong_is_named(order, buckets, message):
    with pytest.raises(ValueError, match=message):
        BagOfNgrams(2, order, buckets)
