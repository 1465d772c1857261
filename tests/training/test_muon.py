import pytest
import torch

from zoo.training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(12, 3), (3, 12), (5, 5), (1, 4)])
def test_it_moves_as_torchs_own_does(shape):
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    optimizers = Muon([ours], 0.02, 0.1), torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1)
    for _ in range(4):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(12, 3, 1, 1), (4, 6, 3, 3), (40, 2, 3, 2), (5, 1, 3, 3), (1, 2, 2, 2)])
def test_filters_move_as_their_matrix_does(shape, layout):
    torch.manual_seed(0)
    start = torch.randn(shape)
    filters = torch.nn.Parameter(start.clone(memory_format=layout))
    matrix = torch.nn.Parameter(start.flatten(1).clone())
    optimizers = Muon([filters], 0.02, 0.1), Muon([matrix], 0.02, 0.1)
    for _ in range(4):
        gradient = torch.randn(shape)
        filters.grad, matrix.grad = gradient.contiguous(memory_format=layout), gradient.flatten(1)
        for optimizer in optimizers:
            optimizer.step()
        assert filters.shape == shape
        assert filters.is_contiguous(memory_format=layout)
        assert torch.equal(filters.flatten(1), matrix)
        assert not torch.equal(filters, start)


def test_filters_go_on_from_a_state_dict_in_another_layout():
    torch.manual_seed(0)
    start, gradients = torch.randn(6, 4, 3, 3), torch.randn(2, 6, 4, 3, 3)
    ends = []
    for is_resumed in (False, True):
        filters = torch.nn.Parameter(start.clone(memory_format=torch.channels_last))
        optimizer = Muon([filters], 0.1)
        for gradient in gradients:
            filters.grad = gradient.contiguous(memory_format=torch.channels_last)
            optimizer.step()
            if is_resumed:
                state = optimizer.state_dict()
                momentum = state["state"][0]["momentum_buffer"]
                state["state"][0]["momentum_buffer"] = momentum.clone(memory_format=torch.contiguous_format)
                optimizer = Muon([filters], 0.1)
                optimizer.load_state_dict(state)
        ends.append(filters.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_come_near_one_and_directions_stay(dtype):
    matrix = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    result = orthogonalise(matrix, dtype)
    assert result.dtype == torch.float32
    values = torch.linalg.svdvals(result)
    assert 0.6 < values.min() <= values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert ((left.T @ result @ right.T).diagonal() > 0.6).all()


def test_a_zero_gradient_leaves_no_nan():
    parameter = torch.nn.Parameter(torch.ones(3, 2))
    parameter.grad = torch.zeros(3, 2)
    Muon([parameter], 0.1).step()
    assert torch.equal(parameter, torch.ones(3, 2))


def test_its_state_comes_back_from_a_state_dict():
    parameter = torch.nn.Parameter(torch.ones(3, 2))
    parameter.grad = torch.rand(3, 2)
    first = Muon([parameter], 0.1)
    first.step()
    second = Muon([parameter], 0.1)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.state[parameter]["momentum_buffer"], first.state[parameter]["momentum_buffer"])
