"""Training runs, each by its script in a process of its own, one after the other, so that none warms up the next."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from zoo.errors import InputError

SCRIPTS = Path(__file__).parents[1] / "scripts"


def command(script: str, options: Mapping[str, Any]) -> list[str]:
    """The command line of a script in scripts/, with its options by their names."""
    return [sys.executable, str(SCRIPTS / script), *arguments(options)]


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Options by their names, as on a command line."""
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def load(script: str) -> ModuleType:
    """A script in scripts/, named without its ending, as a module."""
    spec = importlib.util.spec_from_file_location(script, SCRIPTS / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[script] = module
    spec.loader.exec_module(module)
    return module


def train(script: str, options: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Train into the run folder `run`, over what may be there, and return its metrics.json; the log is beside it.

    Raises:
        InputError: the script failed.
    """
    log = run.with_name(f"{run.name}.log")
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(
            command(script, {**options, "out": run, "overwrite": "true"}), stdout=file, stderr=subprocess.STDOUT
        ).returncode
    if code:
        raise InputError(f"training {run.name} ended with exit code {code}: see {log}")
    return dict(json.loads((run / "metrics.json").read_text(encoding="utf-8")))
