"""The recurrent core once more as plain loops: one row at a time, one step at a time, with `Cell.step` alone.

It shares the core's parameters and nothing else, and never looks at what stands in the padding.
"""

import torch
from torch import Tensor

from zoo.core import CellWeights, RecurrentCore, State


def plain_core(
    core: RecurrentCore, inputs: Tensor, state: State | None = None, lengths: list[int] | None = None
) -> tuple[Tensor, State]:
    """What `core(inputs, state, lengths)` must return, dropout aside."""
    batch, steps, _ = inputs.shape
    parameters = dict(core.named_parameters())
    if state is None:
        shape = (core.num_layers * core.num_directions, batch, core.hidden_size)
        state = tuple(torch.zeros(shape, dtype=inputs.dtype) for _ in range(core.cell.state_parts))
    rows, finals = [], []
    for row in range(batch):
        length = steps if lengths is None else lengths[row]
        sequence = [inputs[row, t] for t in range(length)]
        row_finals = []
        for layer in range(core.num_layers):
            normed = [_norm(x, parameters, layer) if core.residual else x for x in sequence]
            directions = []
            for direction in range(core.num_directions):
                weights = _weights(parameters, f"l{layer}_reverse" if direction else f"l{layer}")
                index = layer * core.num_directions + direction
                h: State = tuple(part[index, row][None] for part in state)
                outputs: list[Tensor] = [torch.empty(0)] * length
                for t in reversed(range(length)) if direction else range(length):
                    h = core.cell.step(normed[t][None], h, weights)
                    outputs[t] = h[0][0].to(inputs.dtype)
                directions.append(outputs)
                row_finals.append(h)
            joined = [torch.cat(parts) for parts in zip(*directions, strict=True)]
            adds = core.residual and len(joined[0]) == len(sequence[0])
            sequence = [x + y if adds else y for x, y in zip(sequence, joined, strict=True)]
        if core.residual:
            sequence = [_norm(x, parameters, core.num_layers) for x in sequence]
        padding = [torch.zeros_like(sequence[0])] * (steps - length)
        rows.append(torch.stack(sequence + padding))
        finals.append([torch.cat(parts) for parts in zip(*row_finals, strict=True)])
    return torch.stack(rows), tuple(torch.stack(parts, dim=1) for parts in zip(*finals, strict=True))


def _weights(parameters: dict[str, Tensor], suffix: str) -> CellWeights:
    return CellWeights(
        parameters[f"weight_ih_{suffix}"],
        parameters[f"bias_ih_{suffix}"],
        parameters.get(f"weight_hh_{suffix}"),
        parameters.get(f"bias_hh_{suffix}"),
    )


def _norm(x: Tensor, parameters: dict[str, Tensor], number: int) -> Tensor:
    centred = x - x.mean()
    scaled = centred / torch.sqrt((centred**2).mean() + 1e-5)
    return scaled * parameters[f"norms.{number}.weight"] + parameters[f"norms.{number}.bias"]
