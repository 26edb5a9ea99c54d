"""Counters of a running engine: plain numbers that an exporter reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

WAITS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)  # seconds
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """Counts observations up to each of `bounds`, and those above all of them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        """Observations."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class EngineCounters:
    """Totals since the start of the engine."""

    late: int = 0  # answers after their deadline
    withdrawn: int = 0  # requests cancelled before they ran
    failures: int = 0  # requests that got an error
    searches: int = 0  # decode jobs finished
    late_searches: int = 0  # of these, after the deadline of their request
    restarts: int = 0  # hung workers replaced
    samples: int = 0  # encoded, without padding
    busy_s: float = 0.0  # time in the encoder
    batch_sizes: Histogram = field(default_factory=lambda: Histogram(SIZES))
    step_waits: Histogram = field(default_factory=lambda: Histogram(WAITS))  # from request to answer, cached steps
    pass_waits: Histogram = field(default_factory=lambda: Histogram(WAITS))  # the same, full passes
