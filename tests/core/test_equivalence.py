"""Every way of computing a core gives the same numbers. Walks the registry: a new cell is tested on arrival."""

from copy import deepcopy
from inspect import signature

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.core.plain_twin import plain_core
from zoo.core import CELLS, CellWeights, RecurrentCore, detach, packed, products, recurrent, scan, stretches
from zoo.core.fused import gru_sequence, lstm_sequence, rnn_sequence
from zoo.core.packed import PackedLinear

INPUT, HIDDEN, STEPS = 5, 6, 7
LENGTHS = [4, 1, STEPS, 5]
TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
SHAPES = {
    "one_layer": {},
    "two_layers": {"num_layers": 2},
    "both_ways": {"bidirectional": True},
    "two_layers_both_ways": {"num_layers": 2, "bidirectional": True},
    "residual": {"residual": True},
    "residual_two_layers_both_ways": {"num_layers": 2, "bidirectional": True, "residual": True},
}
every_cell = pytest.mark.parametrize("cell", CELLS)
every_shape = pytest.mark.parametrize("shape", SHAPES)


def make_core(cell, shape="one_layer", input_size=INPUT, hidden_size=HIDDEN, dtype=torch.float32):
    torch.manual_seed(0)
    core = RecurrentCore(cell, input_size, hidden_size, **SHAPES[shape])
    with torch.no_grad():
        for parameter in core.parameters():  # biases and norms start constant, which would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return core.to(dtype)


def make_inputs(core, batch=4, steps=STEPS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(core.parameters()).dtype
    inputs = torch.randn(batch, steps, core.input_size, generator=generator).to(dtype)
    state = tuple(torch.randn(part.shape, generator=generator).to(dtype) for part in core.initial_state(batch))
    return inputs, state


def results_and_gradients(run, core, inputs, state):
    """By name: outputs, final state, and the gradient of every input, state and parameter."""
    inputs = inputs.clone().requires_grad_()
    state = tuple(part.clone().requires_grad_() for part in state)
    outputs, final = run(inputs, state)
    generator = torch.Generator().manual_seed(2)
    loss = sum(
        (part.double() * torch.randn(part.shape, generator=generator, dtype=torch.float64)).sum()
        for part in (outputs, *final)
    )
    names = [
        "inputs",
        *(f"state {n}" for n in range(len(state))),
        *(name for name, _ in core.named_parameters()),
    ]
    gradients = torch.autograd.grad(loss, [inputs, *state, *core.parameters()])
    named = {"outputs": outputs, **{f"final state {n}": part for n, part in enumerate(final)}}
    named |= {f"gradient of {name}": gradient for name, gradient in zip(names, gradients, strict=True)}
    return {name: tensor.detach() for name, tensor in named.items()}


def assert_same(got, expected, rtol, atol):
    assert got.keys() == expected.keys()
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, expected[name], rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def assert_near_for_bfloat16(got, expected):
    """bfloat16 has three digits, and gradients lose some on their way through steps and layers."""
    for name, tensor in got.items():
        error = (tensor.double() - expected[name].double()).norm() / expected[name].double().norm()
        assert error < (0.08 if name.startswith("gradient") else 0.02), f"{name} is off by {error:.3f} of its size"


# --- the fast path against the plain twin -------------------------------------------------------------------


@every_cell
@every_shape
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_fast_path_equals_plain_twin_in_float32(cell, shape, lengths):
    core = make_core(cell, shape)
    inputs, state = make_inputs(core)
    tensor = None if lengths is None else torch.tensor(lengths)
    fast = results_and_gradients(lambda x, s: core(x, s, tensor), core, inputs, state)
    plain = results_and_gradients(lambda x, s: plain_core(core, x, s, lengths), core, inputs, state)
    assert_same(fast, plain, rtol=1e-4, atol=2e-5)


@every_cell
@every_shape
def test_fast_path_equals_plain_twin_in_float64(cell, shape):
    core = make_core(cell, shape, dtype=torch.float64)
    inputs, state = make_inputs(core)
    fast = results_and_gradients(lambda x, s: core(x, s, torch.tensor(LENGTHS)), core, inputs, state)
    plain = results_and_gradients(lambda x, s: plain_core(core, x, s, LENGTHS), core, inputs, state)
    assert fast["final state 0"].dtype == torch.float64
    assert_same(fast, plain, rtol=1e-9, atol=1e-10)


@every_cell
@every_shape
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_bfloat16_model_is_near_float32_twin(cell, shape, lengths):
    core = make_core(cell, shape, dtype=torch.bfloat16)
    inputs, state = make_inputs(core)
    tensor = None if lengths is None else torch.tensor(lengths)
    fast = results_and_gradients(lambda x, s: core(x, s, tensor), core, inputs, state)
    assert fast["outputs"].dtype == torch.bfloat16
    twin = deepcopy(core).float()
    inputs, state = inputs.float(), tuple(part.float() for part in state)
    plain = results_and_gradients(lambda x, s: plain_core(twin, x, s, lengths), twin, inputs, state)
    assert_near_for_bfloat16(fast, plain)


@every_cell
@every_shape
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_bfloat16_autocast_is_near_float32_twin(cell, shape, lengths):
    core = make_core(cell, shape)
    inputs, state = make_inputs(core)
    tensor = None if lengths is None else torch.tensor(lengths)

    def run(x, s):
        with torch.autocast("cpu", torch.bfloat16):
            return core(x, s, tensor)

    fast = results_and_gradients(run, core, inputs, state)
    assert fast["outputs"].dtype == torch.bfloat16
    assert fast["gradient of weight_ih_l0"].dtype == torch.float32
    plain = results_and_gradients(lambda x, s: plain_core(core, x, s, lengths), core, inputs, state)
    assert_near_for_bfloat16(fast, plain)


@every_shape
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("cell", ["rnn", "gru"])
@pytest.mark.parametrize(
    "check",
    [
        test_fast_path_equals_plain_twin_in_float32,
        test_bfloat16_model_is_near_float32_twin,
        test_bfloat16_autocast_is_near_float32_twin,
    ],
)
def test_so_it_does_with_packed_weights(monkeypatch, check, cell, shape, lengths):
    """Which these sizes are too small for."""
    used = []
    monkeypatch.setattr(packed, "PACKED_ROWS", 1)
    monkeypatch.setattr(packed, "PACKED_SIZE", {torch.float32: 1, torch.bfloat16: 1})
    monkeypatch.setattr(packed, "PackedLinear", lambda *args: used.append(PackedLinear(*args)) or used[-1])
    check(cell, shape, lengths)
    assert used


@pytest.mark.parametrize("cell", [name for name in CELLS if name != "lstm"])
@every_shape
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_so_it_does_with_products_by_convolution(monkeypatch, cell, shape, lengths):
    """Which are for large ones on an AMD processor."""
    convolved = []
    convolution = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *args: convolved.append(args) or convolution(*args))
    monkeypatch.setattr(products, "MIN_MULTIPLICATIONS", {torch.float32: 1, torch.bfloat16: 1})
    monkeypatch.setattr(products, "onednn_is_quicker", lambda: True)
    test_fast_path_equals_plain_twin_in_float32(cell, shape, lengths)
    assert convolved


class AsOnGPU(torch.Tensor):
    """On the CPU, but takes the way that is meant for a GPU."""

    device = torch.device("mps")


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize(("cell", "sequence"), [("rnn", rnn_sequence), ("gru", gru_sequence)])
def test_cells_of_the_gpu_equal_those_of_the_cpu(cell, sequence, lengths):
    core = make_core(cell)
    lengths = None if lengths is None else torch.tensor(lengths)

    def run(x, state):
        outputs, (last,) = sequence(x, (state[0][0],), core.layer_weights(0, 0, x.dtype), lengths)
        outputs, last = outputs.as_subclass(torch.Tensor), last.as_subclass(torch.Tensor)
        return outputs if lengths is None else outputs[torch.arange(STEPS) < lengths[:, None]], (last,)

    cpu = results_and_gradients(run, core, *make_inputs(core))
    gpu = results_and_gradients(lambda x, state: run(x.as_subclass(AsOnGPU), state), core, *make_inputs(core))
    assert_same(gpu, cpu, rtol=1e-4, atol=1e-5)


def test_ragged_rows_of_an_lstm_copy_no_numbers_to_the_device(monkeypatch):
    core = make_core("lstm")
    inputs, state = make_inputs(core)
    weights, lengths = core.layer_weights(0, 0, inputs.dtype), torch.tensor(LENGTHS)
    monkeypatch.delattr(torch, "tensor")  # a copy that a GPU would be waited for
    outputs, _ = lstm_sequence(inputs, tuple(part[0] for part in state), weights, lengths)
    assert outputs.shape == (4, STEPS, HIDDEN)


# --- padding ------------------------------------------------------------------------------------------------


@every_cell
@every_shape
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_garbage_in_the_padding_changes_nothing(cell, shape, garbage):
    core = make_core(cell, shape)
    inputs, state = make_inputs(core)
    lengths = torch.tensor(LENGTHS)
    padding = torch.arange(STEPS) >= lengths[:, None]
    results = [
        results_and_gradients(
            lambda x, s: core(x, s, lengths), core, inputs.masked_fill(padding[..., None], fill), state
        )
        for fill in (0.0, garbage)
    ]
    for name, tensor in results[0].items():
        assert torch.equal(tensor, results[1][name]), name
        assert tensor.isfinite().all(), name
    assert (results[1]["outputs"][padding] == 0).all()
    assert (results[1]["gradient of inputs"][padding] == 0).all()


@every_cell
def test_garbage_in_the_padding_changes_nothing_in_bfloat16(cell):
    core = make_core(cell, "two_layers_both_ways", dtype=torch.bfloat16)
    inputs, state = make_inputs(core)
    lengths = torch.tensor(LENGTHS)
    padding = (torch.arange(STEPS) >= lengths[:, None])[..., None]
    clean, dirty = (
        results_and_gradients(lambda x, s: core(x, s, lengths), core, inputs.masked_fill(padding, fill), state)
        for fill in (0.0, float("nan"))
    )
    for name, tensor in clean.items():
        assert torch.equal(tensor, dirty[name]), name


@every_cell
def test_states_come_through_long_padding_unchanged(cell):
    core = make_core(cell)
    inputs, state = make_inputs(core, batch=2, steps=200)
    _, ragged = core(inputs, state, torch.tensor([3, 200]))
    _, alone = core(inputs[:1, :3], tuple(part[:, :1] for part in state))
    for part, expected in zip(ragged, alone, strict=True):
        torch.testing.assert_close(part[:, :1], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if cell.by_rows])
@every_shape
@pytest.mark.parametrize(
    "check",
    [
        test_fast_path_equals_plain_twin_in_float64,
        test_bfloat16_autocast_is_near_float32_twin,
        test_garbage_in_the_padding_changes_nothing,
    ],
)
def test_so_it_is_in_stretches(monkeypatch, check, cell, shape):
    """Which so few rows and steps are not worth."""
    ran = []
    run = recurrent.run_in_stretches
    monkeypatch.setattr(recurrent, "run_in_stretches", lambda *args: ran.append(args) or run(*args))
    monkeypatch.setattr(stretches, "LEAST_SAVED", 1)
    monkeypatch.setattr(stretches, "LEAST_SHARE", 0)
    more = {"lengths": LENGTHS} if "lengths" in signature(check).parameters else {}
    more |= {"garbage": float("nan")} if "garbage" in signature(check).parameters else {}
    check(cell, shape, **more)
    assert ran


# --- steps, chunks, rows ------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("shape", [name for name, options in SHAPES.items() if "bidirectional" not in options])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_step_by_step_equals_the_whole_sequence(cell, shape, dtype):
    core = make_core(cell, shape, dtype=dtype)
    inputs, state = make_inputs(core)
    outputs, final = core(inputs, state)
    stepped = []
    for t in range(STEPS):
        output, state = core.step(inputs[:, t], state)
        stepped.append(output)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0, "atol": 0.04}
    torch.testing.assert_close(torch.stack(stepped, dim=1), outputs, **tolerance)
    for part, expected in zip(state, final, strict=True):
        torch.testing.assert_close(part, expected, **tolerance)


@every_cell
@pytest.mark.parametrize("shape", ["two_layers", "residual"])
@pytest.mark.parametrize("ends", [[1, 2, 7], [3, 7], [1, 2, 3, 4, 5, 6, 7]], ids=str)
def test_chunks_with_carried_state_equal_the_whole_sequence(cell, shape, ends):
    core = make_core(cell, shape)
    inputs, state = make_inputs(core)
    outputs, final = core(inputs, state)
    pieces, start = [], 0
    for end in ends:
        piece, state = core(inputs[:, start:end], detach(state))
        pieces.append(piece)
        start = end
    torch.testing.assert_close(torch.cat(pieces, dim=1), outputs, rtol=1e-5, atol=1e-5)
    for part, expected in zip(state, final, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)


@every_cell
def test_ragged_chunks_carry_each_rows_own_state(cell):
    core = make_core(cell, "two_layers")
    first, second = [2, 5, 1], [4, 1, 3]
    inputs, state = make_inputs(core, batch=3, steps=9)
    chunks = [inputs[:, :5], inputs[:, 5:]]
    _, carried = core(chunks[0], state, torch.tensor(first))
    outputs, final = core(chunks[1], carried, torch.tensor(second))
    for row in range(3):
        joined = torch.cat([chunks[0][row, : first[row]], chunks[1][row, : second[row]]])[None]
        alone, alone_final = core(joined, tuple(part[:, row : row + 1] for part in state))
        expected = alone[0, first[row] :]
        torch.testing.assert_close(outputs[row, : second[row]], expected, rtol=1e-5, atol=1e-5)
        for part, want in zip(final, alone_final, strict=True):
            torch.testing.assert_close(part[:, row], want[:, 0], rtol=1e-5, atol=1e-5)


@every_cell
@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), extra=st.integers(0, 3))
def test_a_row_alone_equals_the_row_in_any_batch(cell, lengths, extra):
    core = make_core(cell, "two_layers_both_ways")
    inputs, state = make_inputs(core, batch=len(lengths), steps=max(lengths) + extra)
    outputs, final = core(inputs, state, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        start = tuple(part[:, row : row + 1] for part in state)
        alone, alone_final = core(inputs[row : row + 1, :length], start)
        torch.testing.assert_close(outputs[row, :length], alone[0], rtol=1e-5, atol=1e-5)
        for part, expected in zip(final, alone_final, strict=True):
            torch.testing.assert_close(part[:, row], expected[:, 0], rtol=1e-5, atol=1e-5)


# --- torch.nn -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", TORCH)
@pytest.mark.parametrize("shape", [name for name, options in SHAPES.items() if "residual" not in options])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("direction", ["from_torch", "to_torch"])
def test_weights_move_to_and_from_torch_nn(cell, shape, ragged, direction):
    core = make_core(cell, shape)
    torch.manual_seed(3)
    theirs = TORCH[cell](INPUT, HIDDEN, batch_first=True, **SHAPES[shape])
    if direction == "from_torch":
        core.load_state_dict(theirs.state_dict())
    else:
        theirs.load_state_dict(core.state_dict())
    inputs, state = make_inputs(core)
    lengths = torch.tensor(LENGTHS) if ragged else None
    outputs, final = core(inputs, state, lengths)
    packed = pack_padded_sequence(inputs, lengths, True, enforce_sorted=False) if ragged else inputs
    expected, expected_final = theirs(packed, state if cell == "lstm" else state[0])
    if ragged:
        expected, _ = pad_packed_sequence(expected, batch_first=True)
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-5)
    expected_final = expected_final if cell == "lstm" else (expected_final,)
    for part, want in zip(final, expected_final, strict=True):
        torch.testing.assert_close(part, want, rtol=1e-5, atol=1e-5)


# --- each cell's plain step against its equation ----------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_rnn(x, state, w):
    return (np.tanh(w.ih @ x + w.bias_ih + w.hh @ state[0] + w.bias_hh),)


def numpy_lstm(x, state, w):
    h, c = state
    n = len(h)
    gates = w.ih @ x + w.bias_ih + w.hh @ h + w.bias_hh
    i, f = sigmoid(gates[:n]), sigmoid(gates[n : 2 * n])
    g, o = np.tanh(gates[2 * n : 3 * n]), sigmoid(gates[3 * n :])
    c = f * c + i * g
    return o * np.tanh(c), c


def numpy_gru(x, state, w):
    (h,) = state
    n = len(h)
    from_x, from_h = w.ih @ x + w.bias_ih, w.hh @ h + w.bias_hh
    r = sigmoid(from_x[:n] + from_h[:n])
    z = sigmoid(from_x[n : 2 * n] + from_h[n : 2 * n])
    candidate = np.tanh(from_x[2 * n :] + r * from_h[2 * n :])
    return ((1 - z) * candidate + z * h,)


def numpy_mingru(x, state, w):
    (h,) = state
    n = len(h)
    product = w.ih @ x + w.bias_ih
    z = sigmoid(product[n:])
    return ((1 - z) * h + z * product[:n],)


def numpy_minlstm(x, state, w):
    (h,) = state
    n = len(h)
    product = w.ih @ x + w.bias_ih
    i, f = sigmoid(product[n : 2 * n]), sigmoid(product[2 * n :])
    return (f / (f + i) * h + i / (f + i) * product[:n],)


EQUATIONS = {
    "rnn": numpy_rnn,
    "lstm": numpy_lstm,
    "gru": numpy_gru,
    "mingru": numpy_mingru,
    "minlstm": numpy_minlstm,
}


def random_weights(cell, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    rows = CELLS[cell].gates * HIDDEN
    shapes = [(rows, INPUT), (rows,)]
    shapes += [(rows, HIDDEN), (rows,)] if CELLS[cell].recurrent_weights else []
    return CellWeights(*(torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes))


@every_cell
def test_plain_step_is_the_published_equation(cell):
    weights = random_weights(cell)
    x = torch.randn(3, INPUT, dtype=torch.float64)
    state = tuple(torch.randn(3, HIDDEN, dtype=torch.float64) for _ in range(CELLS[cell].state_parts))
    got = CELLS[cell].step(x, state, weights)
    by_hand = CellWeights(*(None if w is None else w.numpy() for w in weights))
    for row in range(3):
        expected = EQUATIONS[cell](x[row].numpy(), tuple(part[row].numpy() for part in state), by_hand)
        for part, want in zip(got, expected, strict=True):
            np.testing.assert_allclose(part[row].numpy(), want, rtol=1e-12, atol=1e-12)


@every_cell
@pytest.mark.parametrize("bias", [-300.0, -60.0, 60.0, 300.0])
def test_saturated_gates_stay_finite_and_step_equals_sequence(cell, bias):
    core = make_core(cell)
    with torch.no_grad():
        core.bias_ih_l0[HIDDEN * (CELLS[cell].gates > 1) :].add_(bias)
    inputs, state = make_inputs(core)
    got = results_and_gradients(lambda x, s: core(x, s), core, inputs, state)
    for name, tensor in got.items():
        assert tensor.isfinite().all(), name
    for t in range(STEPS):
        output, state = core.step(inputs[:, t], state)
    torch.testing.assert_close(output, got["outputs"][:, -1], rtol=1e-4, atol=1e-5)


# --- the scan -----------------------------------------------------------------------------------------------

LENGTHS_OF_SCANS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257]


def scan_case(steps, dtype=torch.float64):
    """Time-major, as the scan works inside: candidate and z (T, B, H), initial (B, H)."""
    generator = torch.Generator().manual_seed(steps)
    candidate, gate = (torch.randn(steps, 2, 3, generator=generator, dtype=dtype) for _ in range(2))
    return candidate, torch.sigmoid(3 * gate), torch.randn(2, 3, generator=generator, dtype=dtype)


def plain_scan(candidate, z, initial):
    h, outputs = initial, []
    for t in range(len(z)):
        h = (1 - z[t]) * h + z[t] * candidate[t]
        outputs.append(h)
    return torch.stack(outputs)


def products_and_initial(gates, steps, dtype=torch.float64):
    generator = torch.Generator().manual_seed(steps)
    blocks = {scan.MINGRU: 2, scan.MINLSTM: 3}[gates]
    products = torch.randn(2, steps, 3 * blocks, generator=generator, dtype=dtype) * 2
    return products, torch.randn(2, 3, generator=generator, dtype=dtype)


every_gates = pytest.mark.parametrize("gates", [scan.MINGRU, scan.MINLSTM], ids=["mingru", "minlstm"])


@pytest.mark.parametrize("steps", LENGTHS_OF_SCANS)
def test_tree_scan_of_the_gpu_and_loop_of_the_cpu_equal_the_plain_scan(steps):
    candidate, z, initial = scan_case(steps)
    expected = plain_scan(candidate, z, initial)
    tree = scan._scan(candidate, z.as_subclass(AsOnGPU), initial, torch.empty_like(z)).as_subclass(torch.Tensor)
    torch.testing.assert_close(tree, expected, rtol=1e-12, atol=1e-13)
    loop = scan._scan(candidate, z, initial, torch.empty_like(z))
    torch.testing.assert_close(loop, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("steps", LENGTHS_OF_SCANS)
def test_tree_form_of_the_backward_scan_equals_the_loop(steps):
    grad, z, from_later = scan_case(steps)
    keep = 1 - z
    tree = scan._scan_backward(keep, grad.clone().as_subclass(AsOnGPU), from_later)
    loop = scan._scan_backward(keep, grad.clone(), from_later)
    torch.testing.assert_close(tree.as_subclass(torch.Tensor), loop, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_gradient_of_the_tree_scan_is_that_of_finite_differences(steps):
    def tree(candidate, z, initial):
        return scan._scan_tree(1 - z, z * candidate, initial)

    assert torch.autograd.gradcheck(tree, [tensor.requires_grad_() for tensor in scan_case(steps)])


@every_gates
@pytest.mark.parametrize("steps", [1, 2, 5, 8])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_gradient_of_the_gated_scan_is_that_of_finite_differences(gates, steps, ragged, chunk, monkeypatch):
    products, initial = (tensor.requires_grad_() for tensor in products_and_initial(gates, steps))
    monkeypatch.setattr(scan, "CHUNK_ELEMENTS", chunk * products[:, 0].numel())
    lengths = torch.tensor([steps, (steps + 1) // 2])
    inside = (torch.arange(steps) < lengths[:, None])[..., None] if ragged else None
    assert torch.autograd.gradcheck(lambda p, h: scan.gated_scan(gates, p, h, inside), [products, initial])


def chunk_of_steps(core, steps):
    """What CHUNK_ELEMENTS must be for chunks of so many steps in a batch of `LENGTHS`."""
    return steps * len(LENGTHS) * core.cell.gates * core.hidden_size


parallel_cells = pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if not cell.recurrent_weights])


@parallel_cells
@every_shape
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_chunks_inside_a_call_change_nothing(cell, shape, steps, monkeypatch):
    core = make_core(cell, shape)
    inputs, state = make_inputs(core)
    for lengths in (None, torch.tensor(LENGTHS)):
        whole, chunked = (
            monkeypatch.setattr(scan, "CHUNK_ELEMENTS", chunk_of_steps(core, size))
            or results_and_gradients(lambda x, s, n=lengths: core(x, s, n), core, inputs, state)
            for size in (STEPS, steps)
        )
        assert_same(chunked, whole, rtol=1e-4, atol=1e-5)


def test_a_chunk_holds_as_many_steps_as_its_elements_allow_and_on_a_gpu_all(monkeypatch):
    products = torch.empty(4, 7, 6)
    for elements, size in ((1, 1), (24, 1), (47, 1), (48, 2), (72, 3), (1000, 7)):
        monkeypatch.setattr(scan, "CHUNK_ELEMENTS", elements)
        chunks = scan._chunks(products)
        assert [step for start, stop in chunks for step in range(start, stop)] == list(range(7))
        assert chunks[0] == (0, size)
        assert scan._chunks(products.as_subclass(AsOnGPU)) == [(0, 7)]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([scan.MINGRU, scan.MINLSTM]), st.integers(2, 40), st.data())
def test_scan_in_two_calls_is_the_scan_of_the_whole(gates, steps, data):
    products, initial = products_and_initial(gates, steps, torch.float32)
    cut = data.draw(st.integers(1, steps - 1))
    whole, final = scan.gated_scan(gates, products, initial)
    first, last = scan.gated_scan(gates, products[:, :cut], initial)
    second, last = scan.gated_scan(gates, products[:, cut:], last)
    # The gates' sigmoid may round differently by where a number stands in memory.
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=5e-7)
    torch.testing.assert_close(last, final, rtol=0, atol=5e-7)


@every_gates
def test_scan_leaves_its_arguments_and_the_incoming_gradients_alone(gates):
    arguments = products_and_initial(gates, 9, torch.float32)
    copies = [tensor.clone() for tensor in arguments]
    results = scan.gated_scan(gates, *(tensor.requires_grad_() for tensor in arguments))
    incoming = [torch.randn_like(tensor) for tensor in results]
    kept = [tensor.clone() for tensor in incoming]
    torch.autograd.backward(results, incoming)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(incoming, kept, strict=True))
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(arguments, copies, strict=True))


def small_gate_core(cell, dtype=torch.float32):
    """One whose gate is near 1e-3: it averages over about a thousand steps."""
    core = make_core(cell, hidden_size=4, dtype=dtype)
    with torch.no_grad():
        core.bias_ih_l0.zero_()
        # minlstm: i / (i + f) with f near 1; mingru: z itself.
        core.bias_ih_l0[4:8] = float(np.log(1e-3))
        if cell == "minlstm":
            core.bias_ih_l0[8:] = 5.0
        core.weight_ih_l0[4:].mul_(0.1)
    return core


def float64_loop(core, inputs):
    cell = core.cell.name
    weights = CellWeights(core.weight_ih_l0.detach().double().numpy(), core.bias_ih_l0.detach().double().numpy())
    rows = []
    for row in inputs.double().numpy():
        state = (np.zeros(core.hidden_size),)
        outputs = []
        for x in row:
            state = EQUATIONS[cell](x, state, weights)
            outputs.append(state[0])
        rows.append(np.stack(outputs))
    return torch.from_numpy(np.stack(rows))


@parallel_cells
def test_two_thousand_steps_with_small_gates_lose_no_accuracy(cell):
    core = small_gate_core(cell)
    inputs, _ = make_inputs(core, batch=2, steps=2000)
    outputs, state = core(inputs + 1)
    expected = float64_loop(core, inputs + 1)
    assert expected.abs().max() > 0.2  # there is something to lose
    assert (outputs - expected).abs().max() < 3e-6
    assert (state[0][0] - expected[:, -1]).abs().max() < 3e-6


@parallel_cells
def test_two_thousand_bfloat16_steps_with_small_gates_do_not_stall(cell):
    core = small_gate_core(cell, torch.bfloat16)
    inputs, _ = make_inputs(core, batch=2, steps=2000)
    _, state = core(inputs + 1)
    expected = float64_loop(core, inputs + 1)[:, -1]
    assert state[0].dtype == torch.float32
    assert ((state[0][0] - expected).norm() / expected.norm()) < 0.02


@parallel_cells
def test_a_thousand_carried_steps_are_those_of_the_whole(cell):
    core = small_gate_core(cell)
    inputs, _ = make_inputs(core, batch=2, steps=1000)
    whole, final = core(inputs)
    state, pieces = None, []
    for start in range(0, 1000, 125):
        piece, state = core(inputs[:, start : start + 125], state)
        pieces.append(piece)
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < 5e-7
    assert (state[0] - final[0]).abs().max() < 5e-7
