"""What is in a save for --resume, checked before it is used: its checksum is right, but anyone can make one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.training.outcome import Progress

STATE = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "Muon": {"momentum_buffer"}}
"""What the optimizers that training uses keep of each parameter."""


def check_contents(
    file: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """Raise InputError unless a save's tensors and metadata are such as these optimizers can go on from."""
    try:
        values = {name: json.loads(metadata[name]) for name in ("progress", "numbers")}
        whole = all(isinstance(value, dict) for value in values.values())
        states = [tensors["random.cpu"], *(t for name, t in tensors.items() if name.endswith(".random.cpu"))]
        for state in states:  # of each process
            torch.Generator().set_state(state)
        carried = [name for name in tensors if name.startswith("carry.")]
        whole = whole and set(carried) == {f"carry.{index}" for index in range(len(carried))}
        kept = {**tensors, **values["numbers"]} if whole else {}
        whole = whole and all(_has_state(number, optimizer, kept) for number, optimizer in enumerate(optimizers))
    except (KeyError, ValueError, TypeError, RuntimeError, RecursionError):
        whole = False
    if not whole:
        raise InputError(f"{file} has other things in it than a run saves: the run cannot go on from it")


def saved_progress(file: Path, saved: Mapping[str, Any]) -> Progress:
    """Where the run was. Raises InputError unless `saved` has just that."""
    defaults = asdict(Progress())
    if saved.keys() != defaults.keys() or not all(
        isinstance(saved[name], str | None if name == "best_weights" else int | float | None)  # missing at first
        if default is None
        else type(saved[name]) in ((int, float) if isinstance(default, float) else (type(default),))
        for name, default in defaults.items()
    ):
        raise InputError(f"{file} does not say where its run was: the run cannot go on from it")
    return Progress(**saved)


def _has_state(number: int, optimizer: torch.optim.Optimizer, values: Mapping[str, Any]) -> bool:
    keys: dict[str, set[str]] = {}
    for name, value in values.items():
        if not name.startswith(f"optimizer.{number}."):
            continue
        _, _, index, key = name.split(".", 3)
        if not index.isdecimal() or not isinstance(value, Tensor):
            return False
        if value.dtype == torch.bool or value.is_complex():
            return False
        # A fused kernel would go through a scalar as if it were as large as the parameter.
        if (key == "step") != (value.dim() == 0) or (key == "step" and value.dtype != torch.float32):
            return False
        keys.setdefault(index, set()).add(key)
    wanted = STATE.get(type(optimizer).__name__)
    return wanted is None or all(found == wanted for found in keys.values())
