"""The machine's limits: rates from times, and which of the two a piece of work meets."""

import pytest
import torch

from benchmarks import machine
from benchmarks.machine import Limits, Work


@pytest.fixture
def limits(monkeypatch):
    times = {"product": 2.0, "sum": 0.5, "copy": 0.25}
    monkeypatch.setattr(machine, "medians", lambda ways, *_, **__: {way: times[way] for way in ways})
    return Limits(torch.device("cpu"), 5, product=100, memory=2**20)


def test_rates(limits):
    assert limits.product_rate("float32") == 2 * 100**3 / 2.0
    assert limits.memory_rate() == 2**20 / 0.25


def test_memory_is_measured_for_what_is_held(limits):
    assert limits.memory_rate(100_000) == 2**17 / 0.25
    assert limits.memory_rate(1e12) == limits.memory_rate()


def test_the_slower_of_products_and_memory_is_the_limit(limits):
    products, memory = 1e6, 2**20 / 0.25
    assert limits.seconds(Work(3 * products, 2 * memory, 2**20), "float32") == (3.0, "products")
    assert limits.seconds(Work(3 * products, 4 * memory, 2**20), "float32") == (4.0, "memory")


def test_rates_are_measured_here():
    limits = Limits(torch.device("cpu"), 2, product=64, memory=2**16)
    assert limits.product_rate("float32") > 1e6 and limits.memory_rate() > 1e6
