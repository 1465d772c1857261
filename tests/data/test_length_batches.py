"""Batches of like length: every row once, pure functions of (seed, epoch, k), within the budget, little padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.length_batches import LengthBatches, evaluation_batches, pad
from zoo.errors import InputError

all_lengths = st.lists(st.integers(0, 60), min_size=1, max_size=300)
budgets = st.none() | st.integers(1, 200)


def all_batches(batches: LengthBatches, epoch: int) -> list[list[int]]:
    return [batches.rows(epoch, k) for k in range(batches.num_batches(epoch))]


def sentence_lengths(count: int) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return (20 * (0.6 * torch.randn(count, generator=generator)).exp()).round().clamp(1).int().tolist()


def padding(lengths: list[int], batches: list[list[int]]) -> float:
    return 1 - sum(lengths) / sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@settings(deadline=None)
@given(all_lengths, st.integers(1, 9), st.integers(-5, 2**40), budgets, st.integers(0, 50))
def test_every_row_once_and_within_the_budget(
    lengths: list[int], batch_size: int, seed: int, budget: int | None, epoch: int
) -> None:
    batches = all_batches(LengthBatches(lengths, batch_size, seed, budget), epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        if budget is not None and len(batch) > 1:
            assert len(batch) * max(lengths[row] for row in batch) <= budget
    if budget is None:
        assert len(batches) == -(-len(lengths) // batch_size)


def test_batch_depends_on_nothing_but_seed_epoch_and_k() -> None:
    lengths = sentence_lengths(700)
    expected = {epoch: all_batches(LengthBatches(lengths, 8, 7, 300), epoch) for epoch in range(3)}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    batches = LengthBatches(lengths, 8, 7, 300)
    for epoch in (2, 0, 1, 0):
        for k in (5, 0, 3):
            assert batches.rows(epoch, k) == expected[epoch][k]
    assert torch.equal(torch.get_rng_state(), state)
    batches.rows(0, 0).clear()  # the caller's list is the caller's
    assert batches.rows(0, 0) == expected[0][0]


@pytest.mark.parametrize("count", [40, 4000])
def test_epochs_and_seeds_differ_in_who_meets_whom_and_in_order(count: int) -> None:
    lengths = list(range(100, 100 + count))  # no two alike, so that only the jitter can mix them in one pool
    batches = LengthBatches(lengths, 8, 0)
    sets = [{frozenset(batch) for batch in all_batches(batches, epoch)} for epoch in range(3)]
    sets.append({frozenset(batch) for batch in all_batches(LengthBatches(lengths, 8, 1), 0)})
    for one in range(4):
        for other in range(one):
            assert len(sets[one] & sets[other]) < 0.5 * len(sets[one])
    means = torch.tensor([sum(lengths[row] for row in batch) / len(batch) for batch in all_batches(batches, 0)])
    assert means.sort().values.tolist() != means.tolist() != means.sort(descending=True).values.tolist()


def test_little_is_padding() -> None:
    lengths = sentence_lengths(20_000)
    # The docstring's figures: 10 % and 5 %, against 72 % at random.
    assert 0.08 < padding(lengths, all_batches(LengthBatches(lengths, 64, 0), 0)) < 0.12
    assert 0.04 < padding(lengths, all_batches(LengthBatches(lengths, 64, 0, 2048), 0)) < 0.07
    shuffled = torch.randperm(20_000, generator=torch.Generator().manual_seed(1))
    assert 0.70 < padding(lengths, [part.tolist() for part in shuffled.split(64)]) < 0.74


def test_unusable_arguments() -> None:
    with pytest.raises(InputError, match="no examples"):
        LengthBatches([], 8, 0)
    with pytest.raises(InputError, match="batch_size is 0: expected 1 or more"):
        LengthBatches([1], 0, 0)
    with pytest.raises(InputError, match="batch_tokens is 0: expected 1 or more"):
        LengthBatches([1], 1, 0, 0)
    with pytest.raises(InputError, match="batch_tokens is -1"):
        evaluation_batches([1], -1)
    batches = LengthBatches([1, 2, 3], 2, 0)
    for k in (-1, 2):
        with pytest.raises(IndexError, match=f"batch {k} of epoch 4: there are 2 batches"):
            batches.rows(4, k)


@given(st.lists(st.integers(0, 60), max_size=200), st.integers(1, 200), st.none() | st.integers(1, 9))
def test_evaluation_goes_from_the_longest_to_the_shortest_within_the_budget(
    lengths: list[int], budget: int, size: int | None
) -> None:
    batches = list(evaluation_batches(lengths, budget, size))
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    for number, batch in enumerate(batches, start=1):
        longest = max(1, lengths[batch[0]])
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert size is None or len(batch) <= size
        # None is cut sooner than it must be.
        assert number == len(batches) or (len(batch) + 1) * longest > budget or len(batch) == size


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_pad(dtype: torch.dtype) -> None:
    tokens, lengths = pad([torch.tensor(row, dtype=dtype) for row in ([1, 2, 3], [], [200])])
    assert tokens.tolist() == [[1, 2, 3], [0, 0, 0], [200, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
    assert tokens.dtype == lengths.dtype == torch.int64


@pytest.mark.parametrize("row", [torch.ones(2, 2, dtype=torch.int64), torch.tensor(1), torch.ones(3)])
def test_pad_refuses_what_is_no_row_of_integers(row: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected \(T,\) and integers"):
        pad([torch.tensor([1]), row])
