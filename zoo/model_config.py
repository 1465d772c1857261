"""config.json: the constructor's arguments of a saved model, which may be a stranger's."""

import inspect
import json
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from zoo.errors import InputError

CONFIG_FILE = "config.json"

MAX_BYTES = 2**24
"""A longer file (of a million labels) is refused."""


def read_config(folder: Path, architecture: str) -> dict[str, Any]:
    """The constructor's arguments from `folder`. Raises InputError unless they are those of `architecture`."""
    file = folder / CONFIG_FILE
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{file} has more than {MAX_BYTES:,} bytes: expected the options of a model")
        config = json.loads(content)
        json.dumps(config, ensure_ascii=False).encode()  # labels with half a character could not be printed
    except FileNotFoundError:
        raise InputError(f"{folder} has no {CONFIG_FILE}: it is not a saved model or a run folder") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # brackets a thousand deep
        raise InputError(f"{file} is not JSON ({error}): it may be truncated; save the model again") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error}): it must be a file that you may read") from error
    found = config.pop("architecture", None) if isinstance(config, dict) else None
    if found != architecture:
        what = f"of a {found[:100]}" if isinstance(found, str) and found else "of no architecture of zoo's"
        raise InputError(f"{file} is {what}, but a {architecture} was expected")
    return dict(config)


def check_types(architecture: type[nn.Module], config: Mapping[str, Any]) -> None:
    """Raise TypeError unless each value of a configuration is of the type that the constructor says."""
    hints = get_type_hints(architecture.__init__)
    for name, value in config.items():
        if name not in inspect.signature(architecture).parameters or name in ("tokenizer", "source_tokenizer"):
            raise TypeError(f"{name[:100]!r} is no option of it")
        if not _is_of_type(value, hints[name]):
            wanted = str(hints[name]).removeprefix("<class '").removesuffix("'>").removeprefix("collections.abc.")
            raise TypeError(f"{name} is {repr(value)[:100]}, but must be {wanted}")


def _is_of_type(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_is_of_type(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is Sequence:
        return isinstance(value, list) and all(_is_of_type(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
