"""What a run needs to go on as if it had never stopped, in one safetensors file.

Optimizers and random number generators are tensors and plain numbers, so nothing has to be pickled.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from zoo.core import State
from zoo.errors import InputError
from zoo.files import write_atomically
from zoo.pretrained import named_tensors
from zoo.training.save_contents import check_contents

FORMAT = "zoo-checkpoint-1"


def save_checkpoint(
    file: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    carry: State,
    progress: dict[str, Any],
    device: torch.device,
) -> None:
    """Write everything atomically. `progress` is JSON-able. Raises OSError if it cannot be written."""
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
    tensors |= {f"carry.{index}": tensor for index, tensor in enumerate(carry)}
    tensors["random.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    # Tensors that are views of others (a carried state may be) cannot be saved as they are.
    packed = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    metadata = {"format": FORMAT, "progress": json.dumps(progress), "numbers": json.dumps(numbers)}
    metadata["digest"] = _digest(packed, metadata)
    write_atomically(file, save(packed, metadata))


def load_checkpoint(
    file: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer], device: torch.device
) -> tuple[State, dict[str, Any]]:
    """Put everything back and return the carry and `progress`.

    Raises:
        InputError: the file is missing, damaged, or not of this model and these optimizers.
    """
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise InputError(
            f"{file} does not exist: the run was not saved once; start it again with --overwrite"
        ) from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a whole safetensors file ({error}): the run cannot go on from it") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{file} is not a checkpoint of this version (format {metadata.get('format')})")
    if metadata.get("digest") != _digest(tensors, metadata):
        raise InputError(f"{file} is damaged (its checksum is another): the run cannot go on from it")
    check_contents(file, tensors, metadata, optimizers)
    targets = named_tensors(model)
    sources = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    for name in sorted(targets.keys() | sources.keys()):
        given, wanted = (tuple(side[name].shape) if name in side else "missing" for side in (sources, targets))
        if given != wanted:
            raise InputError(f"{file} does not fit this model: {name} is {given} there and {wanted} here")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(sources[name])
    numbers = json.loads(metadata["numbers"])
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Any]] = {}
        for name, value in [*tensors.items(), *numbers.items()]:
            if name.startswith(f"optimizer.{number}."):
                _, _, index, key = name.split(".", 3)
                state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        _lay_out_as_parameters(optimizer)
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    parts = sum(name.startswith("carry.") for name in tensors)
    carry = tuple(tensors[f"carry.{index}"].to(device) for index in range(parts))
    return carry, json.loads(metadata["progress"])


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Fused optimizers go through a parameter and its state side by side in memory, so both must be laid out alike."""
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """What tells a whole file from one with a wrong bit somewhere."""
    digest = hashlib.sha256(f"{metadata.get('progress')}\n{metadata.get('numbers')}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
