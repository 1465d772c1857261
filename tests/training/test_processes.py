"""What a process does alone, and how a batch is divided; tests/scripts/test_processes.py starts two."""

import os
import signal
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.training import Outcome, Processes, Progress
from zoo.training.batch_parts import own_part
from zoo.training.interruption import Interruption


class Batch(NamedTuple):
    images: Tensor
    captions: Tensor
    first: bool


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_row_is_in_one_part_with_what_belongs_to_it(rows: int, count: int) -> None:
    batch = Batch(torch.arange(rows), torch.arange(3 * rows), True)
    parts = [own_part(batch, rank, count) for rank in range(count)]
    if rows < count or count == 1:
        assert all(part is batch for part in parts)
        return
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    sizes = [len(part.images) for part in parts]
    assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1
    for part in parts:
        assert part.first
        assert torch.equal(
            part.captions, torch.cat([torch.arange(3 * row, 3 * row + 3) for row in part.images.tolist()])
        )


def test_alone() -> None:
    processes = Processes("cpu")
    assert (processes.count, processes.rank, processes.is_main, processes.device.type) == (1, 0, True, "cpu")
    assert processes.gather(1.5, 2) == [[1.5, 2]]
    assert processes.gather_objects("a") == ["a"]
    assert processes.from_main(lambda: 3) == 3
    with processes.first_alone(), processes.one_error(), processes.listening():
        pass
    with pytest.raises(InputError, match="mine"), processes.one_error():
        raise InputError("mine")
    with pytest.raises(RuntimeError, match="gloo"), processes.listening():
        raise RuntimeError("gloo")
    assert len(processes.launcher()) == 1


def test_a_launcher_that_starts_one_process_instead_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `accelerate launch --cpu --num_processes 2` does."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert Processes().device.type == "cpu"
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(InputError, match="accelerate launch --cpu starts one process, whatever --num_processes says"):
        Processes()


def test_batch_norm_over_processes_keeps_parameters_and_their_names() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = dict(model.named_parameters())
    names = list(model.state_dict())
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert isinstance(model[1], nn.SyncBatchNorm)
    assert all(before[name] is parameter for name, parameter in model.named_parameters())
    assert list(model.state_dict()) == names
    assert model.eval()(torch.zeros(1, 3, 4, 4)).shape == (1, 4, 2, 2)


def test_a_signal_that_is_passed_on_counts_once() -> None:
    # Where a shell has started pytest in the background, nothing would come of it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Interruption(passed_on=True) as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.signal_number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("given", "code"), [({}, None), ({"is_main": False}, 0), ({"signal_number": 15}, 143), ({"signal_number": 2}, 130)]
)
def test_exit_code(given: dict[str, Any], code: int | None) -> None:
    assert Outcome(Progress(), **given).exit_code == code
