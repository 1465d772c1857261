"""The quicker library's products are those of `F.linear`, and so are their gradients."""

import pytest
import torch
import torch.nn.functional as F

from zoo.core import products
from zoo.core.products import Linear, input_gradient, linear, weight_gradient

SHAPES = [(3, 4, 5), (12, 5), (12, 1), (1, 5), (2, 3, 4, 5)]


@pytest.fixture
def convolved(monkeypatch):
    """Small products by convolution, on any processor: those there have been."""
    calls = []
    convolution = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *args: calls.append(args) or convolution(*args))
    monkeypatch.setattr(products, "MIN_MULTIPLICATIONS", {torch.float32: 1, torch.bfloat16: 1})
    monkeypatch.setattr(products, "onednn_is_quicker", lambda: True)
    return calls


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_outputs_and_gradients_are_those_of_torch(convolved, shape, size, has_bias, dtype):
    torch.manual_seed(0)
    given = [torch.randn(shape), torch.randn(size, shape[-1])] + [torch.randn(size)] * has_bias
    given = [tensor.to(dtype).requires_grad_() for tensor in given]
    found, expected = linear(*given), F.linear(*given)
    assert len(convolved) == 1 and found.shape == expected.shape and found.is_contiguous()
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(found, given, grad), torch.autograd.grad(expected, given, grad))
    needed = [given[0], given[-1]]
    alone = torch.autograd.grad(linear(*given), needed, grad)
    torch.testing.assert_close(alone, torch.autograd.grad(F.linear(*given), needed, grad))


def test_gradients_have_gradients(convolved):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        torch.manual_seed(0)
        x, weight = torch.randn(6, 5).to(dtype).requires_grad_(), torch.randn(4, 5).to(dtype).requires_grad_()
        seconds = []
        for product in (linear, F.linear):
            (of_x,) = torch.autograd.grad(product(x, weight).tanh().sum(), x, create_graph=True)
            seconds.append(torch.autograd.grad(of_x.square().sum(), [x, weight]))
        torch.testing.assert_close(seconds[0], seconds[1], rtol=tolerance, atol=tolerance)


def test_rows_and_weights_may_lie_in_any_way(convolved):
    x, weight = torch.randn(4, 3, 5).transpose(0, 1), torch.randn(5, 7).T
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight))
    x = torch.randn(4, 10)[:, ::2]
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight))
    assert len(convolved) == 2


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(12, 5, 7), (1, 5, 7), (12, 1, 7), (12, 5, 1), (1, 1, 1)])
@pytest.mark.parametrize("by_convolution", [True, False])
def test_gradients_alone(monkeypatch, convolved, rows, inputs, outputs, by_convolution):
    monkeypatch.setattr(products, "onednn_is_quicker", lambda: by_convolution)
    x, weight, grad = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
    torch.testing.assert_close(weight_gradient(grad, x), grad.T @ x)
    torch.testing.assert_close(input_gradient(grad, weight), grad @ weight)


def test_a_linear_layer_is_that_of_torch(convolved):
    layer = Linear(5, 7)
    ours, theirs = layer(x := torch.randn(2, 3, 5)), F.linear(x, layer.weight, layer.bias)
    assert convolved
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_are_left_to_torch(convolved, dtype):
    x, weight = (torch.randn(size, 5, dtype=dtype) for size in (3, 7))
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(3, 5), torch.randn(7, 5)).dtype == torch.bfloat16
    assert not convolved


def test_small_products_are_left_to_torch(monkeypatch, convolved):
    monkeypatch.setattr(products, "MIN_MULTIPLICATIONS", {torch.float32: 3 * 5 * 7})
    weight = torch.randn(7, 5)
    linear(torch.randn(2, 5), weight)
    assert not convolved
    linear(torch.randn(3, 5), weight)
    assert convolved


def test_compiled_programs_have_the_compilers_products(convolved):
    x, weight = torch.randn(3, 5), torch.randn(7, 5)
    compiled = torch.compile(linear, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, weight), F.linear(x, weight)) and not convolved


@pytest.mark.parametrize(
    ("maker", "widest", "quicker"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),  # before Zen 4, where oneDNN's gradients of weights take 3 to 10 times MKL's
        ("GenuineIntel", "AVX512", False),
    ],
)
@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_the_processor_decides(monkeypatch, tmp_path, maker, widest, quicker, system):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: widest)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(products.platform, "processor", lambda: f"AMD64 Family 25, {maker}")
    monkeypatch.setattr(products, "Path", lambda name: tmp_path / "cpuinfo")
    if system == "Linux":
        (tmp_path / "cpuinfo").write_text(f"processor: 0\nvendor_id: {maker}\n")
        monkeypatch.setattr(products.platform, "processor", lambda: "")
    assert products.onednn_is_quicker.__wrapped__() == quicker
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)  # as in PyTorch for Arm
    assert not products.onednn_is_quicker.__wrapped__()
