"""What the machine can do at most, measured in the same run: that is what a time is to be judged by."""

import math
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.timing import medians
from zoo.core.products import linear
from zoo.device import Precision

LARGE_PRODUCT = 4096
LARGE_MEMORY = 2**28
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Work:
    """What a piece of work cannot do without.

    Attributes:
        flops: of its matrix products, two for each multiplication with its addition.
        traffic: bytes to read and to write, each tensor as often as another pass over it begins.
        held: bytes that a pass goes over: whether these fit into a cache decides how fast they come.
    """

    flops: float
    traffic: float
    held: float


@dataclass
class Limits:
    """The rates of the large matrix product and of memory.

    Args:
        device: where.
        repeats: timings of each; the median counts.
        product: rows and columns of the large product.
        memory: bytes that count as large.
    """

    device: torch.device
    repeats: int
    product: int = LARGE_PRODUCT
    memory: int = LARGE_MEMORY
    _rates: dict[str | int, float] = field(default_factory=dict)

    def product_rate(self, precision: Precision) -> float:
        """Floating-point operations a second of a product of two large square matrices."""
        if precision not in self._rates:
            size, dtype = self.product, DTYPES[precision]
            left, right = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
            times = medians({"product": lambda: linear(left, right)}, self.repeats, self.device)
            self._rates[precision] = 2 * size**3 / times["product"]
        return self._rates[precision]

    def memory_rate(self, held: float | None = None) -> float:
        """Bytes a second, read or written, over and over in so many bytes: the better of a sum and of a copy."""
        # Powers of two, so that few are measured.
        size = 2 ** math.ceil(math.log2(min(max(held or self.memory, 2**16), self.memory)))
        if size not in self._rates:
            source = torch.ones(size // 4, device=self.device)
            half, other = source.chunk(2)
            ways = {"sum": lambda: source.sum(), "copy": lambda: half.copy_(other)}
            self._rates[size] = size / min(medians(ways, self.repeats, self.device, shortest=0.01).values())
        return self._rates[size]

    def seconds(self, work: Work, precision: Precision) -> tuple[float, str]:
        """The least time that the work can take here, and what it is bound by: `products` or `memory`."""
        products = work.flops / self.product_rate(precision)
        memory = work.traffic / self.memory_rate(work.held)
        return (products, "products") if products > memory else (memory, "memory")


def describe(device: torch.device) -> str:
    """The machine in a line: processor or accelerator, threads, torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return f"{name}, {device.type}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
