"""What all cases of a run share: where and how it measures, and how ours is set beside a peer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from benchmarks.machine import Limits, Work
from benchmarks.memory import peak_memory
from benchmarks.tables import Column, Table, Value
from benchmarks.timing import medians
from zoo.device import Precision

Grid = Literal["quick", "summary", "full"]
MEBIBYTE = 2**20
# Of one timing; less is mostly noise.
SHORTEST = 0.02

COMPARED = (
    Column("ours, ms", ",.2f"),
    Column("peer"),
    Column("peer, ms", ",.2f"),
    Column("times as fast", ".2f"),
    Column("ours, tokens/s", ",.0f"),
    Column("ours, MiB", ",.1f"),
    Column("peer, MiB", ",.1f"),
    Column("share of the limit", ".0%"),
    Column("limit"),
)


@dataclass(frozen=True)
class Session:
    """One run of the benchmarks.

    Attributes:
        device: where.
        precisions: those the hardware multiplies in.
        grid: how many rows.
        repeats: timings of each; the median counts.
        seed: of weights and inputs.
        out: folder for the tables.
        about: lines above each table.
        limits: the machine's.
    """

    device: torch.device
    precisions: tuple[Precision, ...]
    grid: Grid
    repeats: int
    seed: int
    out: Path
    about: tuple[str, ...]
    limits: Limits

    def table(self, name: str, title: str, columns: Sequence[Column]) -> Table:
        print()
        return Table(self.out, name, title, self.about, columns)

    def seconds(self, ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Median seconds of each, timed in turn."""
        shortest = 0.0 if self.grid == "quick" else SHORTEST
        return medians(ways, self.repeats, self.device, shortest)

    def mebibytes(self, work: Callable[[], object]) -> float | None:
        """What a call adds to memory at its peak; see `peak_memory`."""
        peak = peak_memory(work, self.device)
        return None if peak is None else peak / MEBIBYTE

    def compare(
        self,
        ours: Callable[[], object],
        peers: Mapping[str, Callable[[], object]],
        tokens: int,
        work: Work,
        precision: Precision,
    ) -> list[tuple[Value, ...]]:
        """Ours and the peers, all timed in turn: the values of the columns `COMPARED`, a row a peer.

        Args:
            ours: makes `tokens` tokens, or trains on them.
            peers: do the same; by their names.
            tokens: how many, padding not counted.
            work: what of it cannot be avoided, for the share of the machine's limit.
            precision: of our products.
        """
        times = self.seconds({"": ours, **peers})
        mine = times.pop("")
        least, bound = self.limits.seconds(work, precision)
        memory = self.mebibytes(ours)
        return [
            (
                1000 * mine,
                name,
                1000 * time,
                time / mine,
                tokens / mine,
                memory,
                self.mebibytes(peers[name]),
                least / mine,
                bound,
            )
            for name, time in times.items()
        ]


def check_same(what: str, ours: Tensor, peers: Tensor, tolerance: float) -> None:
    """Raise RuntimeError unless ours is within `tolerance` of the peer's, by the norm: else two works are compared."""
    difference = float((ours.float() - peers.float()).norm() / peers.float().norm())
    if not difference <= tolerance:
        raise RuntimeError(f"{what}: ours and the peer's differ by {difference:.1e}, more than {tolerance:.0e}")
