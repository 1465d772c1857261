"""The output layer and its cross-entropy, forward and backward: ours beside `F.cross_entropy` on whole logits.

The limit is three products of every position's features with the weight at the rate of the large product.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.machine import DTYPES, Work
from benchmarks.session import COMPARED, Session, check_same
from benchmarks.tables import Column
from zoo.core.output import linear_cross_entropy
from zoo.device import Precision

GRADIENTS = tuple(f"gradient of the {part}" for part in ("features", "weight", "bias"))
PEER = "F.cross_entropy(F.linear)"
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
# Ours has gradients of the scores in the precision of the products.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}


def measure(session: Session) -> None:
    columns = (Column("precision"), Column("V", ",d"), Column("B·T", ",d"), Column("H", "d"), *COMPARED)
    table = session.table("output", "The output layer and its cross-entropy", columns)
    vocab_sizes, count, size = ((50, 90), 7, 8) if session.grid == "quick" else ((8_000, 50_000), 4_096, 512)
    for vocab_size in vocab_sizes:
        for precision in session.precisions:
            torch.manual_seed(session.seed)
            ours, theirs = (
                loss_step(loss, count, size, vocab_size, precision, session.device)
                for loss in (linear_cross_entropy, whole_logits)
            )
            for what, mine, other in zip(("loss", *GRADIENTS), ours(), theirs(), strict=True):
                check_same(f"{precision}, V {vocab_size}, {what}", mine, other, TOLERANCES[precision])
            for row in session.compare(
                ours, {PEER: theirs}, count, output_work(count, size, vocab_size, precision), precision
            ):
                table.add(precision, vocab_size, count, size, *row)


def whole_logits(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(features, weight, bias), targets)


def loss_step(
    loss: Loss, count: int, size: int, vocab_size: int, precision: Precision, device: torch.device
) -> Callable[[], tuple[Tensor, ...]]:
    """What returns the loss of B·T positions and the gradients of features (B·T, H), weight (V, H) and bias (V,).

    The numbers are the same whatever the loss.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = ((count, size), (vocab_size, size), (vocab_size,))
    features, weight, bias = (
        torch.randn(shape, generator=generator).mul_(size**-0.5).to(device).requires_grad_() for shape in shapes
    )
    targets = torch.randint(vocab_size, (count,), generator=generator).to(device)

    def step() -> tuple[Tensor, ...]:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            value = loss(features, weight, bias, targets)
        return value.detach(), *torch.autograd.grad(value, [features, weight, bias])

    return step


def output_work(count: int, size: int, vocab_size: int, precision: Precision) -> Work:
    flops = 6.0 * count * size * vocab_size
    held = (count + vocab_size) * size * DTYPES[precision].itemsize
    return Work(flops, 3.0 * held, held)
