"""The bag of n-grams beside counting them one by one, and its weights beside those of a dense search."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from zoo.many_to_one.bag_of_ngrams import NONE, BagOfNgrams, _codes

TEXTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=2, max_size=8)


def ngrams(row, order):
    """Each with the place where it first ends; "before the first" is -1."""
    found = {}
    padded = [-1] * (order - 1) + row
    for end in range(len(row)):
        for n in range(1, order + 1):
            found.setdefault(tuple(padded[end + order - n : end + order]), end)
    return found


def code_of(bag, ngram):
    """By a text that ends with it, of which it is the last n-gram of its length."""
    padded = list(ngram)
    while padded and padded[0] == -1:
        padded.pop(0)
    return int(_codes(torch.tensor(padded), bag.order)[-1, len(ngram) - 1])


def fitted(texts, targets, order=2, size=200, num_labels=3, variance=10.0):
    bag = BagOfNgrams(num_labels, order, size).double()
    loss = F.binary_cross_entropy_with_logits if targets.ndim == 2 else F.cross_entropy
    bag.fit([torch.tensor(text) for text in texts], targets, loss, variance)
    return bag


def common_ngrams(texts, order):
    counts = Counter(ngram for text in texts for ngram in ngrams(text, order))
    return [ngram for ngram, count in counts.items() if count >= 2]


@settings(max_examples=30, deadline=None)
@given(TEXTS, st.integers(1, 3), st.integers(0, 5))
def test_scores_and_parts_as_added_up_one_by_one(texts, order, seed):
    targets = torch.randint(3, (len(texts),), generator=torch.Generator().manual_seed(seed))
    bag = fitted(texts, targets, order)
    rows = {code: row for code, row in zip(bag.codes.tolist(), bag.table, strict=True) if code != NONE}
    assert set(rows) == {code_of(bag, ngram) for ngram in common_ngrams(texts, order)}
    asked = [*texts, [0, 0, 3, 9], [9]]
    scores = bag([torch.tensor(text) for text in asked])
    for text, score in zip(asked, scores, strict=True):
        its = {code_of(bag, ngram): end for ngram, end in ngrams(text, order).items()}
        its = {code: end for code, end in its.items() if code in rows}
        expected = torch.zeros(len(text), 3, dtype=torch.float64)
        for code, end in its.items():
            expected[end] += rows[code] / len(its) ** 0.5
        torch.testing.assert_close(bag.parts(torch.tensor(text)), expected)
        torch.testing.assert_close(score, expected.sum(dim=0) + bag.bias)


@pytest.mark.parametrize("several", [False, True])
def test_the_weights_are_the_best_there_are(several):
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(6, (n % 5 + 3,), generator=generator).tolist() for n in range(40)]
    first = torch.tensor([text[0] for text in texts])
    targets = torch.stack([first % 2, first % 3 == 0], dim=1).double() if several else first % 3
    num_labels, variance = (2 if several else 3), 7.0
    bag = fitted(texts, targets, 2, 500, num_labels, variance)

    known = common_ngrams(texts, 2)
    has = torch.tensor([[ngram in ngrams(text, 2) for ngram in known] for text in texts]).double()
    labels = targets if several else F.one_hot(targets, num_labels).double()
    ratios = (has.T @ labels + 1).div((has.T @ labels + 1).sum(dim=0)).log()
    other = has.T @ (1 - labels) + 1
    ratios = ratios - (other.div(other.sum(dim=0)).log() if several else ratios.mean(dim=1, keepdim=True))
    features = has / has.sum(dim=1, keepdim=True).sqrt()
    weights = torch.ones(len(known), 1, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_labels, dtype=torch.float64, requires_grad=True)
    loss = F.binary_cross_entropy_with_logits if several else F.cross_entropy
    search = torch.optim.LBFGS([weights, bias], max_iter=500, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def objective():
        search.zero_grad()
        value = loss(features @ (weights * ratios) + bias, targets)
        value = value + weights.square().sum() / (2 * variance * targets.numel())
        value.backward()
        return value

    search.step(objective)
    expected = features @ (weights * ratios) + bias
    found = bag([torch.tensor(text) for text in texts])
    torch.testing.assert_close(found, expected.detach(), atol=2e-3, rtol=2e-3)
    assert loss(found, targets) < 0.5 * loss(torch.zeros_like(found), targets)


def test_the_commonest_ngrams_are_kept():
    texts = [[5, 1], [5, 2], [5, 1], [3, 2], [3, 1], [4, 4]]
    bag = fitted(texts, torch.tensor([0, 1, 2, 0, 1, 2]), order=1, size=2)
    commonest = [(1,), (5,)]  # of three texts each; 2 and 3 are of two, 4 is of one
    assert bag.codes.tolist() == sorted(code_of(bag, ngram) for ngram in commonest)


def test_texts_that_share_nothing_leave_the_bias():
    bag = fitted([[0], [1], [2]], torch.tensor([0, 0, 1]), order=1, num_labels=2)
    scores = bag([torch.tensor([0]), torch.tensor([7])])
    assert torch.equal(scores[0], scores[1])
    assert scores[0].softmax(dim=0)[0] == pytest.approx(2 / 3, abs=1e-3)


def test_before_it_is_fitted_it_says_nothing():
    bag = BagOfNgrams(2, 2, 10)
    row = torch.tensor([1, 2])
    assert not bag([row]).any() and not bag.parts(row).any()


@pytest.mark.parametrize(
    ("order", "size", "message"), [(0, 9, "bag_order is 0"), (9, 9, "bag_order is 9"), (2, 0, "bag_size is 0")]
)
def test_what_is_wrong_is_named(order, size, message):
    with pytest.raises(ValueError, match=message):
        BagOfNgrams(2, order, size)


def test_what_cannot_be_fitted_is_named():
    with pytest.raises(ValueError, match="bag_variance is 0"):
        fitted([[0], [0]], torch.tensor([0, 1]), variance=0.0)
    with pytest.raises(ValueError, match="no texts"):
        fitted([], torch.tensor([], dtype=torch.int64))
