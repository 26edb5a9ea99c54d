"""Judges every answer by its deadline: the counters of an engine, and the level of service."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..overload import Ladder, Level
from ..requests import CachedStep
from .counters import EngineCounters
from .queue import EncodeJob

_LEVEL_S = 0.25  # how long a computed level stays valid
_GRACE_S = 0.5  # an answer within this time is never late: finals are due at once


class AnswerJudge:
    """Safe in any thread, if one thread at a time calls `answered`. The level stays normal unless `adaptive`."""

    def __init__(self, clock: Callable[[], float], *, adaptive: bool) -> None:
        self.counters = EngineCounters()
        self._clock = clock
        self._ladder = Ladder() if adaptive else None
        self._level = Level.NORMAL  # at `_level_at`: every packet asks for it
        self._level_at = 0.0
        self._lock = threading.Lock()

    @property
    def level(self) -> Level:
        """The level of service, from late answers and searches."""
        now = self._clock()
        if self._ladder is not None and now - self._level_at > _LEVEL_S:
            with self._lock:
                self._level, self._level_at = self._ladder.level(now), now
        return self._level

    def answered(self, job: EncodeJob, now: float) -> None:
        """Count the answer to a request."""
        waits = self.counters.step_waits if isinstance(job.reuse, CachedStep) else self.counters.pass_waits
        waits.observe(now - job.submitted)
        self.counters.late += now > job.deadline
        self.counters.samples += len(job.samples)
        self._judge(now, job.submitted, job.deadline)

    def searched(self, now: float, submitted: float, deadline: float) -> None:
        """Count a search."""
        self.counters.searches += 1
        self.counters.late_searches += now > deadline
        self._judge(now, submitted, deadline)

    def _judge(self, now: float, submitted: float, deadline: float) -> None:
        if self._ladder is not None:
            with self._lock:
                self._ladder.answered(now, waited=now - submitted, allowed=max(deadline - submitted, _GRACE_S))
