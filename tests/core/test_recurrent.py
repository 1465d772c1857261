from copy import deepcopy

import pytest
import torch
from torch import nn

from zoo.core import CELLS, RecurrentCore, detach, get_cell, reorder, replace_rows
from zoo.core.dropout import LockedDropout

TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
every_cell = pytest.mark.parametrize("cell", CELLS)
matrix_cells = pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if cell.recurrent_weights])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def identity_layers(core):
    """Make a two-layer `mingru` hand its input on: candidate = x, z = 1."""
    size = core.hidden_size
    with torch.no_grad():
        for layer in range(core.num_layers):
            core.get_parameter(f"weight_ih_l{layer}").copy_(torch.cat([torch.eye(size), torch.zeros(size, size)]))
            core.get_parameter(f"bias_ih_l{layer}")[size:] = 1e4
    return core


# --- dropout ------------------------------------------------------------------------------------------------


def test_locked_dropout_draws_one_mask_a_row():
    dropped = LockedDropout(0.5)(torch.ones(20, 9, 40))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    masks = {tuple(row.tolist()) for row in dropped[:, 0]}
    assert len(masks) == 20
    assert 0.4 < (dropped == 0).float().mean() < 0.6


def test_locked_dropout_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"^dropout is 1\.0, but must be at least 0 and below 1"):
        LockedDropout(1.0)


@pytest.mark.parametrize("locked", [True, False])
def test_dropout_between_layers_is_locked_where_asked(locked):
    core = identity_layers(RecurrentCore("mingru", 30, 30, 2, dropout=0.5, locked_dropout=locked))
    outputs, _ = core(torch.ones(4, 12, 30))
    assert set(outputs.unique().tolist()) == {0.0, 2.0}  # drawn once, between the two layers
    constant_over_time = torch.equal(outputs, outputs[:, :1].expand_as(outputs))
    assert constant_over_time == locked
    assert not torch.equal(outputs[0], outputs[1])


@every_cell
def test_dropout_does_not_touch_what_one_layer_reads_or_returns(cell):
    core = RecurrentCore(cell, 4, 5, dropout=0.9)
    inputs = torch.randn(2, 3, 4)
    outputs, _ = core(inputs)
    assert torch.equal(outputs, core.eval()(inputs)[0])


@matrix_cells
def test_evaluation_mode_drops_nothing(cell):
    core = RecurrentCore(cell, 4, 5, 2, dropout=0.5, locked_dropout=True, weight_dropout=0.5).eval()
    plain = RecurrentCore(cell, 4, 5, 2).eval()
    plain.load_state_dict(core.state_dict())
    inputs = torch.randn(2, 6, 4)
    assert torch.equal(core(inputs)[0], plain(inputs)[0])
    state = core.initial_state(2)
    assert torch.equal(core.step(inputs[:, 0], state)[0], plain.step(inputs[:, 0], state)[0])


@matrix_cells
def test_weight_dropout_acts_on_the_recurrent_matrices_alone_and_in_training_alone(cell):
    core = RecurrentCore(cell, 4, 5, weight_dropout=0.5)
    inputs = torch.randn(2, 6, 4)
    first, second = core(inputs)[0], core(inputs)[0]
    assert not torch.equal(first[:, 1:], second[:, 1:])  # a new draw a call
    # From a zero state the first step has no use for a recurrent matrix.
    assert torch.equal(first[:, 0], core.eval()(inputs)[0][:, 0])
    assert torch.equal(core(inputs)[0], core(inputs)[0])
    core.train()
    with torch.no_grad():
        core.weight_hh_l0.zero_()
    assert torch.equal(core(inputs)[0], core(inputs)[0])


@matrix_cells
def test_weight_dropout_gives_dropped_weights_no_gradient(cell):
    core = RecurrentCore(cell, 4, 20, weight_dropout=0.5)
    core(torch.randn(3, 6, 4))[0].sum().backward()
    assert 0.4 < (core.weight_hh_l0.grad == 0).float().mean() < 0.6
    assert (core.weight_ih_l0.grad != 0).all()


# --- parameters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", TORCH)
@pytest.mark.parametrize(("layers", "both_ways"), [(1, False), (2, False), (3, True)])
def test_parameters_have_the_names_and_shapes_of_torch_nn(cell, layers, both_ways):
    ours = RecurrentCore(cell, 4, 5, layers, bidirectional=both_ways).state_dict()
    theirs = TORCH[cell](4, 5, layers, bidirectional=both_ways).state_dict()
    assert [(name, part.shape) for name, part in ours.items()] == [(n, part.shape) for n, part in theirs.items()]


@every_cell
@pytest.mark.parametrize("forget_bias", [1.0, -0.5])
def test_forget_bias_fills_the_forget_gate_alone(cell, forget_bias):
    core = RecurrentCore(cell, 4, 5, 2, bidirectional=True, forget_bias=forget_bias)
    for name, parameter in core.named_parameters():
        if "bias" in name:
            expected = torch.zeros(CELLS[cell].gates, 5)
            if "bias_ih" in name and CELLS[cell].forget_gate is not None:
                expected[CELLS[cell].forget_gate] = forget_bias
            assert torch.equal(parameter.view(-1, 5), expected), name


def test_by_default_the_forget_gate_is_open_and_dropout_is_drawn_at_each_step():
    core = RecurrentCore("lstm", 4, 5, dropout=0.5)
    assert core.bias_ih_l0.view(4, 5)[CELLS["lstm"].forget_gate].tolist() == [1.0] * 5
    assert isinstance(core.dropout, nn.Dropout)


def test_the_forget_bias_of_one_makes_lstm_keep_more_of_its_cell():
    kept = []
    for forget_bias in (0.0, 1.0):
        core = RecurrentCore("lstm", 2, 3, forget_bias=forget_bias)
        state = (torch.zeros(1, 1, 3), torch.ones(1, 1, 3))
        kept.append(core.step(torch.zeros(1, 2), state)[1][1])
    torch.testing.assert_close(kept[0], torch.full((1, 1, 3), 0.5))
    torch.testing.assert_close(kept[1], torch.full((1, 1, 3), 0.7310586))


@matrix_cells
def test_recurrent_blocks_start_orthogonal(cell):
    core = RecurrentCore(cell, 4, 6)
    for block in core.weight_hh_l0.detach().chunk(CELLS[cell].gates):
        torch.testing.assert_close(block @ block.T, torch.eye(6), rtol=0, atol=1e-5)


# --- state --------------------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize(("layers", "both_ways"), [(1, False), (3, False), (2, True)])
def test_state_and_output_shapes(cell, layers, both_ways):
    core = RecurrentCore(cell, 4, 5, layers, bidirectional=both_ways)
    directions = 2 if both_ways else 1
    outputs, state = core(torch.randn(7, 3, 4))
    assert outputs.shape == (7, 3, directions * 5)
    assert core.output_size == directions * 5
    for tensors in (state, core.initial_state(7)):
        assert isinstance(tensors, tuple)
        assert [part.shape for part in tensors] == [(layers * directions, 7, 5)] * CELLS[cell].state_parts
    assert all((part == 0).all() for part in core.initial_state(7))


@every_cell
def test_no_state_is_a_state_of_zeros(cell):
    core = RecurrentCore(cell, 4, 5, 2, bidirectional=True)
    inputs = torch.randn(3, 6, 4)
    assert torch.equal(core(inputs)[0], core(inputs, core.initial_state(3))[0])


@every_cell
def test_first_state_part_is_the_last_output(cell):
    core = RecurrentCore(cell, 4, 5, 2)
    outputs, state = core(torch.randn(3, 6, 4), None, torch.tensor([6, 1, 3]))
    assert torch.equal(state[0][-1], outputs[torch.arange(3), torch.tensor([5, 0, 2])])


@every_cell
def test_reorder_picks_rows_and_may_repeat_them(cell):
    core = RecurrentCore(cell, 4, 5, 2)
    inputs = torch.randn(3, 6, 4)
    _, state = core(inputs)
    index = torch.tensor([2, 0, 2, 1])
    picked = reorder(state, index)
    _, expected = core(inputs[index])
    for part, want in zip(picked, expected, strict=True):
        torch.testing.assert_close(part, want, rtol=1e-5, atol=1e-5)
    next_inputs = torch.randn(4, 4)
    core.step(next_inputs, picked)  # what comes back is a state again


@every_cell
def test_detach_cuts_the_graph_and_keeps_the_numbers(cell):
    core = RecurrentCore(cell, 4, 5)
    _, state = core(torch.randn(3, 6, 4))
    assert all(part.requires_grad for part in state)
    cut = detach(state)
    assert isinstance(cut, tuple)
    for part, before in zip(cut, state, strict=True):
        assert not part.requires_grad
        assert torch.equal(part, before)


@every_cell
def test_a_call_leaves_nothing_on_the_module_and_does_not_change_its_arguments(cell):
    core = RecurrentCore(cell, 4, 5, 2)
    inputs = torch.randn(3, 6, 4)
    state = tuple(torch.randn_like(part) for part in core.initial_state(3))
    lengths = torch.tensor([6, 2, 4])
    before = deepcopy((inputs, state, lengths))
    attributes = {name: id(value) for name, value in vars(core).items()}
    first = core(inputs, state, lengths)
    core.step(inputs[:, 0], state)
    second = core(inputs, state, lengths)
    assert {name: id(value) for name, value in vars(core).items()} == attributes
    for one, other in zip((first[0], *first[1]), (second[0], *second[1]), strict=True):
        assert torch.equal(one, other)
    for one, other in zip((inputs, *state, lengths), (before[0], *before[1], before[2]), strict=True):
        assert torch.equal(one, other)


@every_cell
def test_the_same_seed_builds_and_runs_the_same_core(cell):
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        core = RecurrentCore(cell, 4, 5, 2, dropout=0.3, locked_dropout=True)
        results.append(core(torch.randn(3, 6, 4))[0])
    assert torch.equal(*results)


@every_cell
def test_a_state_of_another_precision_is_taken_in_the_cores(cell):
    core = RecurrentCore(cell, 4, 5, 2).bfloat16()
    inputs = torch.randn(3, 6, 4).bfloat16()
    state = tuple(torch.randn_like(part, dtype=torch.float32).bfloat16() for part in core.initial_state(3))
    wide = tuple(part.float() for part in state)
    assert torch.equal(core(inputs, wide)[0], core(inputs, state)[0])
    assert torch.equal(core.step(inputs[:, 0], wide)[0], core.step(inputs[:, 0], state)[0])


@every_cell
def test_a_state_that_is_a_view_works_as_well_as_a_copy(cell):
    core = RecurrentCore(cell, 4, 5, 2)
    inputs = torch.randn(3, 6, 4)
    wide = tuple(torch.randn(2, 3, 10) for _ in range(CELLS[cell].state_parts))
    views = tuple(part[..., ::2] for part in wide)
    copies = tuple(part.contiguous() for part in views)
    torch.testing.assert_close(core(inputs, views)[0], core(inputs, copies)[0], rtol=1e-5, atol=1e-5)


# --- residual -----------------------------------------------------------------------------------------------


@every_cell
def test_residual_normalises_the_output(cell):
    core = RecurrentCore(cell, 5, 8, 3, residual=True)
    outputs, _ = core(torch.randn(2, 6, 5) * 50)
    torch.testing.assert_close(outputs.mean(-1), torch.zeros(2, 6), rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs.std(-1, correction=0), torch.ones(2, 6), rtol=0, atol=1e-2)


def test_residual_hands_the_input_on_past_layers_that_return_zero():
    core = RecurrentCore("mingru", 8, 8, 2, residual=True)
    with torch.no_grad():
        for name, parameter in core.named_parameters():
            if not name.startswith("norms"):
                parameter.zero_()
    inputs = torch.randn(2, 6, 8)
    expected = nn.functional.layer_norm(inputs, (8,))
    torch.testing.assert_close(core(inputs)[0], expected)
    torch.testing.assert_close(core.step(inputs[:, 0], core.initial_state(2))[0], expected[:, 0])


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "ltsm"}, r"cell is 'ltsm', but must be one of rnn, lstm, gru"),
        ({"input_size": 0}, "input_size is 0, but must be at least 1"),
        ({"hidden_size": -3}, "hidden_size is -3, but must be at least 1"),
        ({"num_layers": 0}, "num_layers is 0, but must be at least 1"),
        ({"num_layers": 10**12}, "num_layers is 1000000000000, but must be at most 256"),
        ({"dropout": 1.0}, r"dropout is 1.0, but must be at least 0 and below 1"),
        ({"dropout": -0.1}, r"dropout is -0.1, but must be"),
        ({"dropout": float("nan")}, r"dropout is nan, but must be"),
        ({"weight_dropout": 1.5}, r"weight_dropout is 1.5, but must be"),
        ({"cell": "mingru", "weight_dropout": 0.2}, "mingru has no recurrent matrices to drop from"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RecurrentCore(**{"cell": "gru", "input_size": 4, "hidden_size": 5, **options})


def test_an_unknown_name_is_answered_with_all_names():
    with pytest.raises(ValueError, match="transformer") as error:
        get_cell("transformer")
    assert all(name in str(error.value) for name in CELLS)


@pytest.mark.parametrize("shape", [(3, 6, 5), (3, 4), (3, 0, 4), (4,)])
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"inputs are \(.*must be \(B, T, I\) with T ≥ 1, I 4"):
        RecurrentCore("gru", 4, 5)(torch.zeros(shape))


@every_cell
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_inputs_that_are_no_floats_are_refused(cell, dtype):
    core, inputs = RecurrentCore(cell, 4, 5), torch.ones(3, 6, 4, dtype=dtype)
    with pytest.raises(ValueError, match=f"inputs are {dtype}, but must be floats"):
        core(inputs)
    with pytest.raises(ValueError, match=f"inputs are {dtype}, but must be floats"):
        core.step(inputs[:, 0], core.initial_state(3))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([0, 3, 2], "lengths go from 0 to 3, but must be 1 to T 6"),
        ([1, 7, 2], "lengths go from 1 to 7, but must be 1 to T 6"),
        ([1, 2], r"lengths are \(2,\), but must be \(B,\), B 3"),
        ([[1, 2, 3]], r"lengths are \(1, 3\), but must be"),
    ],
)
def test_bad_lengths_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        RecurrentCore("gru", 4, 5)(torch.zeros(3, 6, 4), None, torch.tensor(lengths))


@every_cell
@pytest.mark.parametrize("batch", [1, 2])
def test_a_state_of_another_batch_or_cell_is_refused(cell, batch):
    core = RecurrentCore(cell, 4, 5, 2)
    for wrong in (core.initial_state(batch), core.initial_state(3)[:-1], core.initial_state(3) * 2):
        with pytest.raises(ValueError, match=r"state is \[.*must be . tensors \(L·D, B, H\), each \(2, 3, 5\)"):
            core(torch.zeros(3, 6, 4), wrong)
        with pytest.raises(ValueError, match=r"state is \["):
            core.step(torch.zeros(3, 4), wrong)


@every_cell
def test_a_bidirectional_core_cannot_step(cell):
    core = RecurrentCore(cell, 4, 5, bidirectional=True)
    with pytest.raises(ValueError, match="bidirectional core cannot step"):
        core.step(torch.zeros(3, 4), core.initial_state(3))


def test_replace_rows_takes_the_chosen_rows_and_leaves_the_others():
    state = (torch.randn(2, 3, 4), torch.tensor([[1, 2, 3]]))
    other = (torch.zeros(2, 3, 4), torch.full((1, 3), -1))
    replaced = replace_rows(state, torch.tensor([False, True, False]), other)
    expected = state[0].clone()
    expected[:, 1] = 0
    torch.testing.assert_close(replaced[0], expected)
    assert replaced[1].tolist() == [[1, -1, 3]]
