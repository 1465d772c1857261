import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import profile

from zoo.core import output
from zoo.core.output import linear_cross_entropy


def plain(features, weight, bias, targets, label_smoothing=0.0):
    return F.cross_entropy(F.linear(features, weight, bias), targets, label_smoothing=label_smoothing)


def random_arguments(rows, hidden_size, vocab_size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(rows * 1000 + vocab_size)
    tensors = [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in ((rows, hidden_size), (vocab_size, hidden_size), (vocab_size,))
    ]
    return tensors, torch.randint(0, vocab_size, (rows,), generator=generator)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 12),
    vocab_size=st.integers(1, 9),
    chunk=st.integers(1, 5),
    piece=st.integers(1, 30),
    smoothing=st.sampled_from([0, 0.3]),
)
def test_chunked_loss_and_gradients_are_those_of_whole_scores(rows, vocab_size, chunk, piece, smoothing):
    tensors, targets = random_arguments(rows, 3, vocab_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "CHUNK_SCORES", 1)
        patch.setattr(output, "MIN_ROWS", chunk)
        patch.setattr(output, "PIECE_SCORES", piece)
        ours = linear_cross_entropy(*tensors, targets, smoothing)
        ours_grads = torch.autograd.grad(3 * ours, tensors)
    theirs = plain(*tensors, targets, smoothing)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(ours_grads, torch.autograd.grad(3 * theirs, tensors))


def test_autocast_gives_bfloat16_products_and_float32_weight_gradients():
    tensors, targets = random_arguments(50, 16, 40, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(*tensors, targets)
    grads = torch.autograd.grad(ours, tensors)
    theirs = plain(*tensors, targets)
    assert ours.dtype == torch.float32
    assert [grad.dtype for grad in grads] == [torch.float32] * 3
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)
    for grad, expected in zip(grads, torch.autograd.grad(theirs, tensors), strict=True):
        assert (grad - expected).norm() < 2e-2 * expected.norm()


def test_bfloat16_features_are_scored_with_float32_weights():
    (features, weight, bias), targets = random_arguments(50, 16, 40, torch.float32)
    low = features.detach().bfloat16().requires_grad_()
    ours = linear_cross_entropy(low, weight, bias, targets)
    theirs = plain(features, weight, bias, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)
    grads = torch.autograd.grad(ours, [low, weight, bias])
    assert [grad.dtype for grad in grads] == [torch.bfloat16, torch.float32, torch.float32]
    for grad, expected in zip(grads, torch.autograd.grad(theirs, [features, weight, bias]), strict=True):
        assert (grad.float() - expected).norm() < 2e-2 * expected.norm()


def test_gradients_of_bfloat16_weights_are_added_up_in_float32(monkeypatch):
    monkeypatch.setattr(output, "CHUNK_SCORES", 1)
    monkeypatch.setattr(output, "MIN_ROWS", 1)
    # 1,000 times the same: in bfloat16 a sum no longer grows where what is added is 1 part in 256 of it.
    tensors = [torch.ones(1000, 1), torch.zeros(2, 1), torch.zeros(2)]
    tensors = [tensor.bfloat16().requires_grad_() for tensor in tensors]
    linear_cross_entropy(*tensors, torch.zeros(1000, dtype=torch.long)).backward()
    assert tensors[1].grad.flatten().tolist() == tensors[2].grad.tolist() == [-0.5, 0.5]


def test_no_gradient_is_made_where_none_is_wanted():
    tensors, targets = random_arguments(7, 3, 5)
    with torch.no_grad(), profile() as record:
        assert not linear_cross_entropy(*tensors, targets).requires_grad
    products = [event for event in record.events() if event.name in ("aten::mm", "aten::addmm")]
    assert [event.name for event in products] == ["aten::addmm"]
    only_bias = [tensors[0].detach(), tensors[1].detach(), tensors[2]]
    (grad,) = torch.autograd.grad(linear_cross_entropy(*only_bias, targets), tensors[2])
    torch.testing.assert_close(grad, torch.autograd.grad(plain(*tensors, targets), tensors[2])[0])


def test_scores_far_apart_do_not_overflow():
    features = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    loss = linear_cross_entropy(features, torch.tensor([[1.0], [-1.0]]), torch.zeros(2), torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(1e4)
