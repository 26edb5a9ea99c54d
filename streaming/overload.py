"""Levels of reduced service under overload, and when the level changes.

Finals are the same at every level. The level rises soon after answers miss their deadlines, counting only requests made
at that level, and falls only after sustained early answers (hysteresis).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

_PERIOD: Final = 1.0  # seconds between two decisions
_FEWEST: Final = 4  # answers that a decision needs
_LATE: Final = 0.25  # share of late answers that raises the level, in two successive periods
_VERY_LATE: Final = 0.75  # share that raises it at once
_EARLY: Final = 0.5  # part of the allowed time; an answer within it is early
_SLOW: Final = 0.1  # share of answers in a calm period that may not be early
_SETTLE: Final = 3.0  # seconds for a new level to take effect
_CALM: Final = 5.0  # seconds of calm that lower the level


class Level(IntEnum):
    """How far the service is reduced. Each level includes those before it."""

    NORMAL = 0
    WIDE = 1  # live steps at least two hops wide, one at a time
    COMMITTED = 2  # live steps as wide as the session allows, no volatile text
    SHORT = 3  # new utterances have a quarter of the left context
    FINALS = 4  # no live steps, except one to find the best pause in overlong speech


class Ladder:
    """Computes the level from all answers. `now` is any clock in seconds that never goes back."""

    def __init__(self) -> None:
        self._level = Level.NORMAL
        self._began = 0.0  # start of the period
        self._answered = 0.0  # time of the last answer
        self._trouble = 0.0  # time of the last answer in a period that was not calm
        self._raised = float("-inf")  # time of the last rise
        self._answers = self._late = self._slow = 0  # in this period
        self._warned = False  # whether the previous period had too many late answers

    def level(self, now: float) -> Level:
        """The level at time `now`; it falls also without requests."""
        self._judge(now)
        return self._level

    def answered(self, now: float, *, waited: float, allowed: float) -> None:
        """Count an answer that took `waited` seconds; more than `allowed` is late."""
        self._answered = now
        if now - waited < self._raised:  # requests from before the rise do not count for this level,
            if waited > _EARLY * allowed:  # but while they are slow it must not fall
                self._trouble = now
            return
        self._answers += 1
        self._late += waited > allowed
        self._slow += waited > _EARLY * allowed
        self._judge(now)

    def _judge(self, now: float) -> None:
        passed = now - self._began
        if passed < _PERIOD or (0 < self._answers < _FEWEST and passed < _CALM):
            return
        if self._slow > _SLOW * self._answers:
            self._trouble = self._answered
        late = self._late > _LATE * self._answers
        enough = self._late > _VERY_LATE * self._answers or (late and self._warned)
        if enough and now - self._raised >= _SETTLE:
            self._level = Level(min(self._level + 1, Level.FINALS))
            self._raised = now
        self._warned = late
        down = min(int((now - self._trouble) // _CALM), self._level)
        if down > 0:
            self._level, self._trouble = Level(self._level - down), now
        self._began = now
        self._answers = self._late = self._slow = 0
