"""Pooling: each kind against the plain sum over a row's own steps, whatever the padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core.pooling import POOLINGS, Pooling

every_kind = pytest.mark.parametrize("kind", POOLINGS)


def make(*kinds, size=6, directions=2):
    torch.manual_seed(0)
    return Pooling(kinds, size, directions)


def plainly(pooling, kind, row):
    """One row without padding, (T, M) -> (M,)."""
    if kind == "mean":
        return row.mean(dim=0)
    if kind == "max":
        return row.max(dim=0).values
    if kind == "last":
        half = len(row[0]) // 2
        return torch.cat([row[-1, :half], row[0, half:]])
    scores = torch.tanh(row @ pooling.attention.weight.T + pooling.attention.bias) @ pooling.context.weight[0]
    return scores.softmax(dim=0) @ row


@every_kind
@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), more=st.integers(0, 4))
def test_each_row_is_pooled_as_if_alone(kind, lengths, more):
    pooling = make(kind)
    outputs = torch.randn(len(lengths), max(lengths) + more, 6)
    for row, length in enumerate(lengths):
        outputs[row, length:] = 1e4  # what stands in the padding must not matter
    pooled = pooling(outputs, torch.tensor(lengths))
    expected = torch.stack([plainly(pooling, kind, outputs[row, :n]) for row, n in enumerate(lengths)])
    torch.testing.assert_close(pooled, expected)


def test_one_direction_ends_at_its_last_step():
    outputs = torch.randn(2, 5, 6)
    pooled = make("last", directions=1)(outputs, torch.tensor([5, 2]))
    assert torch.equal(pooled, torch.stack([outputs[0, 4], outputs[1, 1]]))


def test_several_kinds_are_joined_in_order():
    outputs, lengths = torch.randn(3, 4, 6), torch.tensor([4, 1, 3])
    pooled = make("max", "mean")(outputs, lengths)
    assert torch.equal(pooled[:, :6], make("max")(outputs, lengths))
    assert torch.equal(pooled[:, 6:], make("mean")(outputs, lengths))


def test_all_kinds_together_and_their_parameters():
    pooling = make(*POOLINGS)
    assert pooling.output_size == 24
    assert pooling(torch.randn(3, 4, 6), torch.tensor([4, 1, 3])).shape == (3, 24)
    # A bias on u·tanh(W h + b) would be the same for all steps, and so for nothing.
    assert set(pooling.state_dict()) == {"attention.weight", "attention.bias", "context.weight"}
    assert not make("mean", "max", "last").state_dict()


def test_attention_weights_are_shares_of_the_rows_own_steps():
    weights = make("attention").attention_weights(torch.randn(2, 5, 6), torch.tensor([3, 5]))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert (weights[0, 3:] == 0).all()
    assert (weights[0, :3] > 0).all()


@every_kind
def test_bfloat16_outputs_are_pooled_in_float32(kind):
    pooling, outputs, lengths = make(kind), torch.randn(2, 300, 6).bfloat16(), torch.tensor([300, 7])
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooling(outputs, lengths)
    assert pooled.dtype == torch.float32
    # Only the attention's own products are in bfloat16; a sum of 300 steps there would be off by far more.
    torch.testing.assert_close(pooled, pooling(outputs.float(), lengths), rtol=0, atol=2e-3)


@pytest.mark.parametrize("kinds", [(), ("mean", "mean"), ("median",), ("",)])
def test_other_kinds_are_named(kinds):
    with pytest.raises(ValueError, match="must be of last, mean, max, attention"):
        make(*kinds)
