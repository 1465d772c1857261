"""What holds for all tests: several run at once, a process a core (pytest-xdist), and so each has one thread."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Training in these processes leaves their memory as it is: some tests measure it, whatever ran before them.
os.environ.setdefault("GLIBC_TUNABLES", "")

# Before anything imports torch. Two processes of two threads each on two cores take ten times as long.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture
def hub_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[tuple[str, dict[str, Any]]]]:
    """Has every name on the hub stand for a folder; what is asked of the hub is added to the list that comes back."""

    def start(folder: Path) -> list[tuple[str, dict[str, Any]]]:
        asked: list[tuple[str, dict[str, Any]]] = []

        def download(name: str, **options: Any) -> str:
            asked.append((name, options))
            return str(folder)

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        return asked

    return start
