"""The LSTM's scan against `torch.lstm`, which the core takes for all other sizes."""

import pytest
import torch
from torch import Tensor

from zoo.core import RecurrentCore, lstm

LENGTHS = torch.tensor([9, 7, 7, 4, 1])


def results(core: RecurrentCore, x: Tensor, lengths: Tensor | None, dtype: torch.dtype) -> list[Tensor]:
    """Outputs, both parts of the state, and the gradients of all that goes in."""
    generator = torch.Generator().manual_seed(1)
    state = tuple(torch.randn(2, len(x), 8, generator=generator).requires_grad_() for _ in range(2))
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        outputs, last = core(x, state, lengths)
    parts = [outputs, *last]
    loss = sum((part.float() * torch.randn(part.shape, generator=generator)).sum() for part in parts)
    grads = torch.autograd.grad(loss, [x, *state, *core.parameters()])
    return [part.detach().float() for part in (*parts, *grads)]


@pytest.fixture
def take_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm, "SCAN_SIZE", {torch.float32: 1, torch.bfloat16: 1})
    monkeypatch.setattr(lstm, "onednn_is_quicker", lambda: True)


@pytest.mark.parametrize("batch", [1, 5])  # of which the second has packed steps in bfloat16
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 2**18])
def test_scan_is_the_kernel(
    batch: int,
    ragged: bool,
    dtype: torch.dtype,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    torch.manual_seed(0)
    core = RecurrentCore("lstm", input_size=6, hidden_size=8, num_layers=2)
    x, lengths = torch.randn(batch, 9, 6), LENGTHS[:batch] if ragged else None
    exact = results(core, x, lengths, torch.float32)
    kernel = results(core, x, lengths, dtype)
    request.getfixturevalue("take_scan")
    monkeypatch.setattr(lstm, "CHUNK_ELEMENTS", chunk)
    calls: list[tuple[int, ...]] = []
    scan = lstm.lstm_scan
    monkeypatch.setattr("zoo.core.fused.lstm_scan", lambda *args: calls.append(args[0].shape) or scan(*args))
    found = results(core, x, lengths, dtype)
    assert calls
    for mine, its, right in zip(found, kernel, exact, strict=True):
        # In bfloat16 both round; ours may be off by no more than a little beyond the kernel's own error.
        allowed = 1e-5 if dtype == torch.float32 else 0.02 + 1.5 * float((its - right).norm() / right.norm())
        assert float((mine - right).norm()) <= allowed * float(right.norm())


def test_small_and_float32_keep_the_kernel() -> None:
    assert not lstm.scan_is_quicker(torch.zeros(1), 4096)
    assert not lstm.scan_is_quicker(torch.zeros(1, dtype=torch.bfloat16), 512)
