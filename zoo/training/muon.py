"""Muon: momentum whose step is made orthogonal, for hidden weight matrices.

`torch.optim.Muon` computes in bfloat16 whatever the hardware, which is far slower than float32 on a processor without
such products. This one takes the precision as an argument and is otherwise the same, number for number.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Of the quintic that pushes singular values towards 1, and how often it is applied (Jordan et al., 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Args:
        params: matrices (rows, columns), or groups of them; the filters of a convolution, (out, in, height, width), are
            a matrix with a row for each.
        lr: learning rate; a matrix with more rows than columns moves by √(rows / columns) times it.
        weight_decay: decoupled.
        momentum: of Nesterov's kind.
        dtype: to orthogonalise in; a rough result is enough, so bfloat16 does where it is quick.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                average = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(average, group["momentum"])
                matrix = ahead.flatten(1)
                rows, columns = matrix.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                step_size = group["lr"] * max(1, rows / columns) ** 0.5
                parameter.add_(orthogonalise(matrix, self.dtype).view_as(parameter), alpha=-step_size)
        return loss


def orthogonalise(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Bring every singular value of (rows, columns) near 1, by Newton and Schulz's iteration; about 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)
