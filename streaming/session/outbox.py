"""A session's events on their way out, stamped with lag and level."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from ..overload import Level
from ..protocol.events import Event


class Outbox:
    """Collects events in order. This is the one place that sets `lag_ms` and `level`."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.now = 0.0  # of the last call from outside
        self._events: list[Event] = []
        self._arrivals: list[tuple[int, float]] = []  # (sample, when all audio before it was there)

    def arrived(self, sample: int) -> None:
        """All audio before a sample is there now."""
        self._arrivals.append((sample, self.now))

    def forget(self, sample: int) -> None:
        """Drop arrivals before a sample."""
        del self._arrivals[: bisect_left(self._arrivals, (sample, float("-inf")))]

    def emit(self, event: Event, sample: int) -> None:
        """Add an event about the audio before a sample."""
        self._events.append(msgspec.structs.replace(event, lag_ms=self._lag_ms(sample), level=int(self.level)))

    def drain(self) -> list[Event]:
        """Events since the last call, in order."""
        events, self._events = self._events, []
        return events

    def _lag_ms(self, sample: int) -> float:
        if not self._arrivals:
            return 0.0
        at = bisect_left(self._arrivals, (sample, float("-inf")))
        return round((self.now - self._arrivals[min(at, len(self._arrivals) - 1)][1]) * 1000, 1)
