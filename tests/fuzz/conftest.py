"""Hostile cases, a few of each kind by default; `python -m pytest tests/fuzz --cases 10000` is the whole campaign."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from tests.fuzz.reading_process import Case, ReadingProcess

FEW = 20
Attack = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=int, help=f"hostile cases a reader; {FEW} if left out, and then always the same")


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadingProcess]:
    started = ReadingProcess(tmp_path_factory.mktemp("home"))
    yield started
    started.stop()


@pytest.fixture
def attack(request: pytest.FixtureRequest, process: ReadingProcess, tmp_path: Path) -> Attack:
    """`attack(reader, cases, share=1)`: the reader ends as it should, whatever of the cases it is given."""
    # None too where the option is unknown, as the folder was not named on the command line.
    wanted: int | None = request.config.getoption("--cases", default=None)

    def run(reader: str, cases: SearchStrategy[Case], share: float = 1) -> None:
        ends: Counter[str] = Counter()
        folder = tmp_path / "case"

        @settings(
            max_examples=max(1, round(share * (FEW if wanted is None else wanted))),
            deadline=None,
            derandomize=wanted is None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        @given(cases)
        def ends_well(case: Case) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name, content in case.files.items():
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            ends[process.read(reader, folder, case).partition(":")[0]] += 1

        ends_well()
        print(f"{reader}: {ends['read']:,} read, {ends['refused']:,} refused")
        # Some must be read, or the cases would be too strange to come far.
        assert ends["read"], ends

    return run
