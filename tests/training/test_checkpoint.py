"""resume.safetensors: everything comes back, and what is not whole or of something else is refused in one line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from zoo.errors import InputError
from zoo.training.checkpoint import load_checkpoint, previous_save, save_checkpoint

CPU = torch.device("cpu")


def make(width: int = 4) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))
    hidden = [model[0].weight, model[2].weight]
    rest = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    return model, [torch.optim.AdamW(rest, lr=0.01), torch.optim.Muon(hidden, lr=0.1)]


def step(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    model(torch.randn(5, 3)).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    model, optimizers = make()
    step(model, optimizers)
    file = tmp_path / "resume.safetensors"
    save_checkpoint(
        file, model, optimizers, (torch.randn(1, 2, 3), torch.tensor([[4, 5]])), {"step": 1, "best": None}, CPU
    )
    return file


def test_everything_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model, optimizers = make()
    for _ in range(3):
        step(model, optimizers)
    base = torch.randn(4, 2, 3)
    carry = (base[1:2], base.transpose(0, 1)[:, :1], torch.tensor([[4, 5]]))  # views, as a carried state may be
    progress = {"step": 3, "best": None, "loss": 0.1 + 0.2, "ended": False}
    file = tmp_path / "resume.safetensors"
    save_checkpoint(file, model, optimizers, carry, progress, CPU)
    step(model, optimizers)

    torch.manual_seed(4)
    again, again_optimizers = make()
    again_carry, again_progress = load_checkpoint(file, again, again_optimizers, CPU)
    assert again_progress == progress
    for value, expected in zip(again_carry, carry, strict=True):
        assert torch.equal(value, expected)
        assert value.dtype == expected.dtype
    # The random stream, the moments and the statistics go on where they were.
    step(again, again_optimizers)
    for (name, value), expected in zip(again.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(value, expected), name


def test_filters_go_on_in_a_layout_of_their_own(tmp_path: Path) -> None:
    """A fused AdamW goes through filters and their moments as they lie in memory, and files keep one layout only."""
    ends = []
    for is_resumed in (False, True):
        torch.manual_seed(3)
        model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimizers = [torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)]
        for _ in range(3):
            model(torch.randn(2, 3, 5, 5)).square().sum().backward()
            optimizers[0].step()
            optimizers[0].zero_grad()
            if is_resumed:
                save_checkpoint(tmp_path / "resume.safetensors", model, optimizers, (), {}, CPU)
                optimizers = [torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)]
                load_checkpoint(tmp_path / "resume.safetensors", model, optimizers, CPU)
        ends.append(model.weight.detach())
    assert torch.equal(*ends)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    ends = []
    for save in (False, True):
        torch.manual_seed(3)
        model, optimizers = make()
        for _ in range(3):
            step(model, optimizers)
            if save:
                save_checkpoint(tmp_path / "resume.safetensors", model, optimizers, (), {}, CPU)
        ends.append(model[0].weight)
    assert torch.equal(*ends)


def assert_refused(file: Path, match: str, width: int = 4) -> None:
    with pytest.raises(InputError, match=match) as caught:
        load_checkpoint(file, *make(width), CPU)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_the_good_file_is_taken(saved: Path) -> None:
    carry, progress = load_checkpoint(saved, *make(), CPU)
    assert (len(carry), progress) == (2, {"step": 1, "best": None})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_or_lengthened_file(saved: Path, data: st.DataObject) -> None:
    with changed(saved) as content:
        end = data.draw(st.integers(0, len(content) - 1) | st.binary(min_size=1, max_size=40))
        saved.write_bytes(content[:end] if isinstance(end, int) else content + end)
        assert_refused(saved, "is not a whole safetensors file")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_turned_bits_anywhere(saved: Path, data: st.DataObject) -> None:
    with changed(saved) as content:
        header = 8 + int.from_bytes(content[:8], "little")
        # The header is a small part of the file, and where most can go wrong.
        places = st.integers(0, header - 1) | st.integers(0, len(content) - 1)
        bits = data.draw(st.sets(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=3))
        damaged = bytearray(content)
        for place, bit in bits:
            damaged[place] ^= 1 << bit
        saved.write_bytes(damaged)
        assert_refused(saved, "is not a whole safetensors file|is not a checkpoint of this version|is damaged")


@contextmanager
def changed(file: Path) -> Iterator[bytes]:
    """The file's content, which is put back at the end."""
    content = file.read_bytes()
    try:
        yield content
    finally:
        file.write_bytes(content)


def test_what_is_refused_names_the_save_before_it_if_there_is_one(saved: Path) -> None:
    content = saved.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"?", b""):
        saved.write_bytes(damaged)
        previous_save(saved).unlink(missing_ok=True)
        assert_refused(saved, "start it again with --overwrite")
        previous_save(saved).write_bytes(content)
        assert_refused(saved, "--resume_previous goes on from the save before it")


def test_the_save_before_is_kept(saved: Path) -> None:
    content = saved.read_bytes()
    assert not previous_save(saved).exists()
    save_checkpoint(saved, *make(), (), {"step": 2}, CPU)
    assert previous_save(saved).read_bytes() == content
    _, progress = load_checkpoint(saved, *make(), CPU)
    assert progress["step"] == 2
    save_checkpoint(saved, *make(), (), {"step": 3}, CPU)
    _, progress = load_checkpoint(previous_save(saved), *make(), CPU)
    assert progress["step"] == 2
    assert {file.name for file in saved.parent.iterdir()} == {saved.name, previous_save(saved).name}


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda file: file.unlink(), "does not exist: the run was not saved once"),
        (lambda file: file.write_text("something else"), "is not a whole safetensors file"),
        (lambda file: save_file({"weight": torch.ones(2)}, file), "is not a checkpoint of this version"),
        (lambda file: save_file(load_file(file), file), "is not a checkpoint of this version"),
        (
            lambda file: save_file(load_file(file), file, {"format": "zoo-checkpoint-0"}),
            r"is not a checkpoint of this version \(format zoo-checkpoint-0\)",
        ),
        (lambda file: (file.unlink(), file.mkdir()), "is not a whole safetensors file"),
    ],
)
def test_another_file(saved: Path, damage: Callable[[Path], object], match: str) -> None:
    damage(saved)
    assert_refused(saved, match)


def test_a_checkpoint_of_another_model(saved: Path) -> None:
    assert_refused(saved, r"does not fit this model: 0.bias is \(4,\) there and \(5,\) here", width=5)
    with pytest.raises(InputError, match=r"does not fit this model: 0.bias is \(4,\) there and missing here"):
        load_checkpoint(saved, nn.ModuleDict({"other": nn.Linear(1, 1)}), [], CPU)


def test_a_checkpoint_of_a_larger_model(saved: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(InputError, match="does not fit this model"):
        load_checkpoint(saved, model, [torch.optim.AdamW(model.parameters())], CPU)


def test_a_refused_checkpoint_changes_nothing(saved: Path) -> None:
    """The last parameter is the one that does not fit."""
    model, optimizers = make()
    model[2] = nn.Linear(4, 7)
    before = model[0].weight.clone()
    with pytest.raises(InputError):
        load_checkpoint(saved, model, optimizers, CPU)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("change", ["kind", "order"])
def test_a_checkpoint_of_other_optimizers(saved: Path, change: str) -> None:
    """Their kernels would read and write past the ends of what they are given."""
    model, optimizers = make()
    others = optimizers[::-1] if change == "order" else [torch.optim.AdamW(model.parameters())]
    match = r"does not fit these optimizers: its optimizer.0\..* has no parameter|other things in it than a run saves"
    with pytest.raises(InputError, match=match):
        load_checkpoint(saved, model, others, CPU)


def test_a_failed_save_keeps_the_one_before(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, *make(), (), {"step": 2}, CPU)
    _, progress = load_checkpoint(saved, *make(), CPU)
    assert progress["step"] == 1
