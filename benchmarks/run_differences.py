"""What differs between two run folders that should be alike."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open
from safetensors.torch import load_file

TIMES = {"training_minutes", "evaluation_minutes", "tokens_per_second", "images_per_second"}
TIMES |= {"training_seconds", "evaluation_seconds"}


def differences(folder: Path, unbroken: Path) -> Iterator[str]:
    """What differs between two run folders but for times and their own names."""
    names = [{str(file.relative_to(place)) for file in place.rglob("*")} for place in (folder, unbroken)]
    yield from (f"only one of them has {name}" for name in sorted(names[0] ^ names[1]))
    for name in sorted(names[0] & names[1]):
        files = (folder / name, unbroken / name)
        read = READERS.get(name, Path.read_bytes)
        with suppress(IsADirectoryError):
            first, second = map(read, files)
            if first != second:
                yield f"{name} differs"


def _timeless(value: Any) -> Any:
    """`value` without what says how long something took."""
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if name not in TIMES}
    return value


def _save(file: Path) -> Any:
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
    tensors = {name: (str(t.dtype), t.shape, t.numpy().tobytes()) for name, t in load_file(file).items()}
    return tensors, _timeless(json.loads(metadata["progress"])), json.loads(metadata["numbers"])


READERS: dict[str, Callable[[Path], Any]] = {
    "config.yaml": lambda file: yaml.safe_load(file.read_text("utf-8")) | {"out": None},
    "metrics.json": lambda file: _timeless(json.loads(file.read_text("utf-8"))),
    "metrics.jsonl": lambda file: [_timeless(json.loads(line)) for line in file.read_text("utf-8").splitlines()],
    "resume.safetensors": _save,
    "resume.previous.safetensors": _save,
}
