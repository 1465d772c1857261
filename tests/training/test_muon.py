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
