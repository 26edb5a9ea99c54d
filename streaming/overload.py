"""What a service under more load than it can carry gives up, step by step, and when.

Finals are never given up: they are the same at every level. A level is left upwards soon after answers begin to come
too late, judged by what was asked for on that level, and downwards only after a while in which they came early, so that
it does not swing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

_PERIOD: Final = 1.0  # seconds that are judged together
_FEWEST: Final = 4  # answers that a judgement needs
_LATE: Final = 0.25  # share of late answers that leads up, in two successive periods
_VERY_LATE: Final = 0.75  # share that does so at once
_EARLY: Final = 0.5  # of the time allowed; an answer within it is early
_SLOW: Final = 0.1  # share of answers that may be neither while things are called calm
_SETTLE: Final = 3.0  # seconds that a level has to show what it helps
_CALM: Final = 5.0  # seconds of calm that lead down


class Level(IntEnum):
    """How much is given up. Each level includes those before it."""

    NORMAL = 0
    WIDE = 1  # live steps at least twice as far apart, and one at a time
    COMMITTED = 2  # as far apart as the session allows, and no volatile text
    SHORT = 3  # utterances that begin now get a quarter of the left context
    FINALS = 4  # no live steps, but for the one that finds the best pause in speech that is too long


class Ladder:
    """Told of every answer, knows the level. `now` is any clock in seconds that never goes back."""

    def __init__(self) -> None:
        self._level = Level.NORMAL
        self._began = 0.0  # of the period
        self._answered = 0.0  # when the last answer came
        self._trouble = 0.0  # when the last answer came of a period that was not calm
        self._raised = float("-inf")  # when the level last went up
        self._answers = self._late = self._slow = 0  # in this period
        self._warned = False  # the period before was late

    def level(self, now: float) -> Level:
        """The level at this moment; a service that is asked nothing recovers too."""
        self._judge(now)
        return self._level

    def answered(self, now: float, *, waited: float, allowed: float) -> None:
        """An answer came after `waited` seconds; after `allowed` it was late."""
        self._answered = now
        if now - waited < self._raised:  # it was asked for on the level below, and says nothing about this one,
            if waited > _EARLY * allowed:  # but where there is still a backlog of those it is not calm
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
