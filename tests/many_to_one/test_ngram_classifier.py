import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from zoo.many_to_one import ngram_classifier
from zoo.many_to_one.ngram_classifier import NgramClassifier
from zoo.ngram_model import NgramModel

VOCAB = 6


def texts(count: int, seed: int, longest: int = 9) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(longest + 1, (count,), generator=generator).tolist()
    return [torch.randint(VOCAB, (length,), generator=generator) for length in lengths]


def languages(count: int, seed: int) -> tuple[list[Tensor], list[int]]:
    """Two languages with the same frequencies: one counts up, the other down, each from any token."""
    generator = torch.Generator().manual_seed(seed)
    rows, labels = [], []
    for number in range(count):
        label = number % 2
        start = int(torch.randint(VOCAB, (), generator=generator))
        steps = torch.arange(5 + number % 3)
        rows.append((start + steps * (1 - 2 * label)) % VOCAB)
        labels.append(label)
    return rows, labels


def direct(
    train: list[Tensor], labels: list[int], rows: list[Tensor], num_labels: int, order: int
) -> list[list[float]]:
    """The posterior text by text and token by token, each token's distribution from its own context."""
    edge = max(order - 1, 1)
    posterior = []
    models = []
    for label in range(num_labels):
        joined = [VOCAB] * (order - 1)
        for row, own in zip(train, labels, strict=True):
            if own == label:
                joined += [*row.tolist(), *[VOCAB] * edge]
        models.append(NgramModel(VOCAB + 1, order).fit(torch.tensor(joined)))
    for row in rows:
        scores = []
        for label, model in enumerate(models):
            score = math.log((labels.count(label) + 1) / (len(labels) + num_labels))
            context = [VOCAB] * (order - 1)
            for token in [*row.tolist(), VOCAB]:
                state = torch.tensor(context[len(context) - order + 1 :], dtype=torch.long)[:, None]
                score += model.next_log_probabilities((state,))[0, token].item()
                context.append(token)
            scores.append(score)
        total = sum(math.exp(score) for score in scores)
        posterior.append([score - math.log(total) for score in scores])
    return posterior


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_equals_a_direct_computation(order: int) -> None:
    train, labels = texts(30, seed=1), [number % 3 for number in range(29)] + [0]
    rows = [*texts(8, seed=2), torch.tensor([], dtype=torch.long), torch.tensor([3])]
    model = NgramClassifier(VOCAB, 3, order).fit(train, labels)
    expected = torch.tensor(direct(train, labels, rows, 3, order), dtype=torch.float64)
    torch.testing.assert_close(model.log_probabilities(rows), expected, atol=1e-5, rtol=1e-5)


def test_the_posterior_sums_to_one_and_a_text_does_not_depend_on_those_beside_it() -> None:
    model = NgramClassifier(VOCAB, 3, 3).fit(texts(30, seed=1), [number % 3 for number in range(30)])
    rows = texts(12, seed=2)
    found = model.log_probabilities(rows)
    assert found.shape == (12, 3)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(12, dtype=torch.float64))
    for number, row in enumerate(rows):
        torch.testing.assert_close(model.log_probabilities([row])[0], found[number], atol=1e-12, rtol=0)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_order_of_the_training_texts_does_not_matter(order: int) -> None:
    train, labels = texts(40, seed=1), [number % 2 for number in range(40)]
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(3)).tolist()
    first = NgramClassifier(VOCAB, 2, order).fit(train, labels)
    second = NgramClassifier(VOCAB, 2, order).fit([train[n] for n in shuffled], [labels[n] for n in shuffled])
    rows = texts(10, seed=2)
    torch.testing.assert_close(first.log_probabilities(rows), second.log_probabilities(rows), atol=1e-12, rtol=0)


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    model = NgramClassifier(VOCAB, 2, 4).fit(texts(40, seed=1), [number % 2 for number in range(40)])
    rows = texts(6, seed=2)
    whole = model.log_probabilities(rows)
    monkeypatch.setattr(ngram_classifier, "CHUNK_TOKENS", chunk)
    torch.testing.assert_close(model.log_probabilities(rows), whole, atol=1e-12, rtol=0)


def test_separates_two_languages_by_the_order_of_their_tokens() -> None:
    train, labels = languages(40, seed=1)
    rows, truth = languages(20, seed=2)
    ordered = NgramClassifier(VOCAB, 2, 2).fit(train, labels).log_probabilities(rows)
    assert ordered.argmax(dim=1).tolist() == truth
    assert ordered.max(dim=1).values.exp().min() > 0.9
    unordered = NgramClassifier(VOCAB, 2, 1).fit(train, labels).log_probabilities(rows)
    assert unordered.max(dim=1).values.exp().max() < 0.9  # which only the order of the tokens tells apart


def test_the_beginning_and_the_end_of_a_text_count() -> None:
    train = [torch.tensor(row) for row in ([0, 1, 2], [0, 1, 2], [2, 1, 0], [2, 1, 0])]
    model = NgramClassifier(3, 2, 2).fit(train, [0, 0, 1, 1])
    probabilities = model.log_probabilities([torch.tensor([0]), torch.tensor([2]), torch.tensor([1])]).exp()
    # One token is the first and the last at once: 0 begins the texts of class 0 and ends those of class 1.
    torch.testing.assert_close(probabilities[0], probabilities[1].flip(0))
    assert probabilities[2].tolist() == pytest.approx([0.5, 0.5])
    longer = model.log_probabilities([torch.tensor([0, 1]), torch.tensor([1, 0])]).exp()
    assert longer[0, 0] > 0.5 > longer[1, 0]


def test_the_prior_is_that_of_the_examples_with_one_more_each() -> None:
    same = torch.tensor([0, 1])
    # Both classes' texts are alike in all that an order of 1 counts: shares of tokens and ends.
    model = NgramClassifier(2, 2, 1).fit([same] * 16, [0] * 8 + [1] * 8)
    assert model.log_probabilities([same]).exp()[0].tolist() == pytest.approx([0.5, 0.5])
    model = NgramClassifier(2, 2, 1).fit([torch.tensor([0] * 6), same, same, same], [0, 1, 1, 1])
    empty = torch.tensor([], dtype=torch.long)
    # Ends: 1 in 7 tokens of class 0, and 3 in 9 of class 1, less their discounts; (1 + 1) and (3 + 1) in 4 + 2.
    ends = [NgramModel(3, 1).fit(torch.tensor(row)) for row in ([0] * 6 + [2], [0, 1, 2] * 3)]
    weights = [p * math.exp(-m.nats_per_token(torch.tensor([2]))) for p, m in zip((2 / 6, 4 / 6), ends, strict=True)]
    expected = [weight / sum(weights) for weight in weights]
    assert model.log_probabilities([empty]).exp()[0].tolist() == pytest.approx(expected)


def test_errors_say_what_was_given_and_expected() -> None:
    with pytest.raises(ValueError, match="vocab_size is 0 and num_labels 2"):
        NgramClassifier(0, 2)
    with pytest.raises(ValueError, match="num_labels 0"):
        NgramClassifier(3, 0)
    with pytest.raises(ValueError, match="order is 0"):
        NgramClassifier(3, 2, 0)
    model = NgramClassifier(3, 2)
    row = torch.tensor([0, 1])
    with pytest.raises(RuntimeError, match="call fit"):
        model.log_probabilities([row])
    wrong: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: model.fit([], []), "there are no texts"),
        (lambda: model.fit([row, row], [0]), "2 texts and 1 labels"),
        (lambda: model.fit([row, row], [0, 2]), "label 1 is 2: expected 0 to 1"),
        (lambda: model.fit([row, row], [-1, 1]), "label 0 is -1"),
        (lambda: model.fit([row, row], [1, 1]), "no text has label 0"),
        (lambda: model.fit([row, torch.tensor([3])], [0, 1]), "ids go from 0 to 3: the vocabulary has ids 0 to 2"),
        (lambda: model.fit([row[None], row], [0, 1]), r"text 0 has shape \(1, 2\)"),
        (lambda: model.fit([row, row.float()], [0, 1]), "dtype torch.float32"),
    )
    for use, message in wrong:
        with pytest.raises(ValueError, match=message):
            use()
    with pytest.raises(RuntimeError, match="call fit"):
        model.log_probabilities([row])  # none of these failed half-way
    model.fit([row, row], [0, 1])
    with pytest.raises(ValueError, match="there are no texts"):
        model.log_probabilities([])
    with pytest.raises(ValueError, match="ids go from -1 to 1"):
        model.log_probabilities([torch.tensor([-1, 1])])
