"""Devices and precisions by name."""

import pytest
import torch

from zoo.device import choose_device, choose_precision
from zoo.errors import InputError


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_auto_is_a_device_that_works() -> None:
    assert torch.ones(2, device=choose_device("auto")).sum() == 2


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match=f"device is {name}, but it cannot be used"):
        choose_device(name)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_precision_by_name(name: str) -> None:
    assert choose_precision(name, torch.device("cpu")) == name


def test_auto_takes_bfloat16_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda there=there: there)
        assert choose_precision("auto", torch.device("cpu")) == expected


def test_an_unknown_precision() -> None:
    with pytest.raises(InputError, match="precision is float16, but must be auto, float32 or bfloat16"):
        choose_precision("float16", torch.device("cpu"))
