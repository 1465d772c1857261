"""What a run needs to go on as if it had never stopped, in one safetensors file.

Optimizers and random number generators are tensors and plain numbers, so nothing has to be pickled.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from zoo.core import State
from zoo.errors import InputError
from zoo.files import write_atomically
from zoo.pretrained import checksum, named_tensors
from zoo.training.save_contents import check_contents

FORMAT = "zoo-checkpoint-2"


def previous_save(file: Path) -> Path:
    """Where `save_checkpoint` keeps the save before that in `file`."""
    return file.with_suffix(f".previous{file.suffix}")


def save_checkpoint(
    file: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    carry: State,
    progress: dict[str, Any],
    device: torch.device,
    others: Sequence[dict[str, Tensor]] = (),
) -> None:
    """Write everything atomically, and keep the save that stood there (see `previous_save`).

    Between the two moves there is only the previous one: a kill in that moment makes it the last save.

    Args:
        file: where to.
        model, optimizers, carry, device: what is saved, and where it is.
        progress: where the run is; JSON-able.
        others: what is `own_state` of the other processes that train with this one, by rank.

    Raises:
        OSError: it cannot be written; both earlier saves are as they were.
    """
    tensors: dict[str, Tensor] = {f"model.{name}": tensor for name, tensor in named_tensors(model).items()}
    numbers: dict[str, float] = {}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                name = f"optimizer.{number}.{index}.{key}"
                if isinstance(value, Tensor):
                    tensors[name] = value
                elif value is not None:
                    numbers[name] = value
    tensors |= own_state(carry, device)
    for rank, state in enumerate(others, start=1):
        tensors |= {f"process.{rank}.{name}": tensor for name, tensor in state.items()}
    # Tensors that are views of others (a carried state may be) cannot be saved as they are.
    packed = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    metadata = {"format": FORMAT, "progress": json.dumps(progress), "numbers": json.dumps(numbers)}
    metadata["digest"] = checksum(packed, metadata["progress"], metadata["numbers"])
    write_atomically(file, save(packed, metadata), keep_as=previous_save(file))


def own_state(carry: State, device: torch.device) -> dict[str, Tensor]:
    """What each process has of its own, on the CPU: what it hands on to its next batch, and its random numbers."""
    tensors = {f"carry.{index}": tensor.cpu() for index, tensor in enumerate(carry)}
    tensors["random.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def load_checkpoint(
    file: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer], device: torch.device, rank: int = 0
) -> tuple[State, dict[str, Any]]:
    """Put everything back and return the carry and `progress`, those of process `rank`.

    Raises:
        InputError: the file is missing, damaged, or not of this model and these optimizers.
    """
    metadata, tensors = _read(file)
    check_contents(file, tensors, metadata, optimizers)
    targets = named_tensors(model)
    sources = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    for name in sorted(targets.keys() | sources.keys()):
        given, wanted = (tuple(side[name].shape) if name in side else "missing" for side in (sources, targets))
        if given != wanted:
            raise InputError(f"{file} does not fit this model: {name} is {given} there and {wanted} here")
    values = tensors | json.loads(metadata["numbers"])
    states = [_state_of(number, optimizer, values, file) for number, optimizer in enumerate(optimizers)]
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(sources[name])
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        _lay_out_as_parameters(optimizer)
    prefix = f"process.{rank}." if rank else ""
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if "random.cpu" not in own:
        raise InputError(f"{file} has nothing of process {rank}: go on with as many processes as before")
    torch.set_rng_state(own["random.cpu"])
    if "random.cuda" in own and device.type == "cuda":
        torch.cuda.set_rng_state(own["random.cuda"], device)
    parts = sum(name.startswith("carry.") for name in own)
    carry = tuple(own[f"carry.{index}"].to(device) for index in range(parts))
    return carry, json.loads(metadata["progress"])


def _read(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a whole checkpoint of this version."""
    previous = previous_save(file)
    remedy = (
        "--resume_previous goes on from the save before it" if previous.exists() else "start it again with --overwrite"
    )
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise InputError(f"{file} does not exist: the run was not saved once; {remedy}") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a whole safetensors file ({error}): {remedy}") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{file} is not a checkpoint of this version (format {metadata.get('format')}): {remedy}")
    if metadata.get("digest") != checksum(tensors, metadata.get("progress", ""), metadata.get("numbers", "")):
        raise InputError(f"{file} is damaged (its checksum is another): {remedy}")
    return metadata, tensors


def _state_of(
    number: int, optimizer: torch.optim.Optimizer, values: dict[str, Any], file: Path
) -> dict[int, dict[str, Any]]:
    """What `values` have for an optimizer, by parameter. A fused kernel would not notice that sizes are others."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in values.items():
        if name.startswith(f"optimizer.{number}."):
            _, _, index, key = name.split(".", 3)
            fits = int(index) < len(parameters)
            if fits and isinstance(value, Tensor):
                fits = value.shape == (() if key == "step" else parameters[int(index)].shape)
            if not fits:
                raise InputError(f"{file} does not fit these optimizers: its {name} has no parameter of that size here")
            state.setdefault(int(index), {})[key] = value
    return state


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Fused optimizers go through a parameter and its state side by side in memory, so both must be laid out alike."""
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
