"""Windows: contiguous, shifted by one, pure functions of (seed, epoch, k)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.data import ContiguousWindows, fresh_windows, spread, windows
from zoo.errors import InputError

# A token is its own position, so that a batch shows where it was taken from.
shapes = st.tuples(st.integers(1, 9), st.integers(1, 12)).flatmap(
    lambda shape: st.tuples(st.just(shape[0]), st.just(shape[1]), st.integers(shape[1] + 1, 400))
)


@given(shapes, st.integers(-5, 2**40), st.integers(0, 50))
def test_rows_are_contiguous_and_targets_one_further(shape: tuple[int, int, int], seed: int, epoch: int) -> None:
    batch_size, window, count = shape
    windows = ContiguousWindows(torch.arange(count), batch_size, window, seed)
    number = windows.num_batches(epoch)
    batches = [windows.batch(epoch, k) for k in range(number)]
    rows = torch.cat([batch.inputs for batch in batches], dim=1)

    assert number >= 1
    assert 1 <= windows.batch_size <= batch_size
    assert rows.shape == (windows.batch_size, number * window)
    assert torch.equal(rows, rows[:, :1] + torch.arange(number * window))
    assert len(set(rows.flatten().tolist())) == rows.numel()
    assert rows[0, 0] == windows.offset(epoch) < window
    assert [batch.first for batch in batches] == [True] + [False] * (number - 1)
    for batch in batches:
        assert batch.inputs.dtype == batch.targets.dtype == torch.int64
        assert batch.inputs.is_contiguous()
        assert batch.targets.is_contiguous()
        assert torch.equal(batch.targets, batch.inputs + 1)
    assert batches[-1].targets.max() < count
    # Less than a window a row (and the division's remainder) is lost.
    assert count - windows.offset(epoch) - 1 - rows.numel() < windows.batch_size * window + windows.batch_size


def test_batch_depends_on_nothing_but_seed_epoch_and_k() -> None:
    tokens = torch.randint(100, (5000,), dtype=torch.int32)
    windows = ContiguousWindows(tokens, 4, 32, seed=7)
    expected = [windows.batch(epoch, k) for epoch in (0, 1, 2) for k in range(3)]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    fresh = ContiguousWindows(tokens, 4, 32, seed=7)
    for epoch in (2, 0, 1):
        for k in (2, 0, 1):
            batch = fresh.batch(epoch, k)
            assert torch.equal(batch.inputs, expected[3 * epoch + k].inputs)
            assert torch.equal(batch.targets, expected[3 * epoch + k].targets)
    assert torch.equal(torch.get_rng_state(), state)


def test_offsets_cover_the_window_and_differ_between_seeds() -> None:
    windows = ContiguousWindows(torch.arange(1000), 2, 8, seed=3)
    offsets = [windows.offset(epoch) for epoch in range(200)]
    assert set(offsets) == set(range(8))
    other = ContiguousWindows(torch.arange(1000), 2, 8, seed=4)
    assert offsets != [other.offset(epoch) for epoch in range(200)]


def test_rows_are_reduced_to_what_fits() -> None:
    assert ContiguousWindows(torch.arange(50), 64, 10, seed=0).batch_size == 4
    assert ContiguousWindows(torch.arange(11), 64, 10, seed=0).batch_size == 1
    assert ContiguousWindows(torch.arange(10_000), 64, 10, seed=0).batch_size == 64


@pytest.mark.parametrize("k", [-1, 9, 1000])
def test_batch_out_of_range(k: int) -> None:
    windows = ContiguousWindows(torch.arange(100), 1, 11, seed=0)
    assert windows.num_batches(0) <= 9
    with pytest.raises(IndexError, match="there are"):
        windows.batch(0, k)


@given(st.integers(1, 12), st.integers(0, 100))
def test_fresh_windows(window: int, more: int) -> None:
    count = window + 1 + more
    inputs, targets = fresh_windows(torch.arange(count, dtype=torch.int32), window)
    number = (count - 1) // window
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(inputs, torch.arange(number * window).view(number, window))
    assert torch.equal(targets, inputs + 1)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40))
def test_spread(count: int, most: int, stretch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "STRETCH", stretch)
        tokens = spread(torch.arange(count).to(torch.uint16), most)
    assert tokens.dtype == torch.int64
    assert len(tokens) == min(count, most)
    if most >= count:
        assert torch.equal(tokens, torch.arange(count))
        return
    steps = tokens.diff()
    stretches = int((steps != 1).sum()) + 1
    assert stretches <= -(-most // stretch)
    assert tokens[0] == 0
    # As much is left out before any stretch as after any other, but for rounding.
    gaps = steps[steps != 1]
    assert not len(gaps) or int(gaps.max() - gaps.min()) <= 2


def test_spread_over_none() -> None:
    with pytest.raises(ValueError, match="most is 0"):
        spread(torch.arange(5), 0)


@pytest.mark.parametrize("count", [0, 1, 32])
def test_too_few_tokens(count: int) -> None:
    for make in (lambda t: ContiguousWindows(t, 4, 32, seed=0), lambda t: fresh_windows(t, 32)):
        with pytest.raises(InputError, match=f"has {count} tokens and one window of 32 needs 33"):
            make(torch.zeros(count))


def test_bad_sizes() -> None:
    tokens = torch.arange(100)
    with pytest.raises(InputError, match="batch_size is 0"):
        ContiguousWindows(tokens, 0, 8, seed=0)
    with pytest.raises(InputError, match="window is 0"):
        ContiguousWindows(tokens, 1, 0, seed=0)
    with pytest.raises(InputError, match="window is -1"):
        fresh_windows(tokens, -1)
    with pytest.raises(ValueError, match=r"\(10, 10\)"):
        fresh_windows(tokens.view(10, 10), 2)
