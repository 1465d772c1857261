"""What several caches are tested with."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TWO_HOURS = 7200


@pytest.fixture
def left_by_killed_runs() -> Callable[[Path, str], tuple[Path, Path, Path]]:
    """Files in a cache folder: half of what a run of two hours ago computed, and one just now, and a user's own."""

    def leave(folder: Path, kind: str) -> tuple[Path, Path, Path]:
        folder.mkdir(parents=True)
        old, fresh = (folder / f"{kind}-{digit * 32}.{digit * 32}.partial" for digit in "ab")
        mine = folder / f"{kind}-of-mine.partial"
        for path in (old, fresh, mine):
            path.write_text("half")
        for path in (old, mine):
            os.utime(path, (time.time() - TWO_HOURS,) * 2)
        return old, fresh, mine

    return leave
