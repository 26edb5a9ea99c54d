"""An event loop that knows how long it had nothing to do.

A process that is always busy reads its sockets late. Audio then waits where nothing else sees it: in `lag_ms` and the
overload level it counts only once it is read.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import time
from collections.abc import Callable
from typing import Any, Final

INTERVAL_S: Final = 5.0
BUSY: Final = 0.01  # share of idle time below which a loop is busy, in two intervals
CALM: Final = 0.1  # share from which it no longer is

logger = logging.getLogger("xlsr_live.server")


class _IdleSelector(selectors.DefaultSelector):
    """Measures how long it waits for the first event, and not how long a ready event waits for Python's lock."""

    def __init__(self) -> None:
        super().__init__()
        self.idle_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        began = time.monotonic()
        ready = super().select(timeout)
        self.idle_s += time.monotonic() - began
        return ready


class MeasuredLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._idle = _IdleSelector()
        super().__init__(self._idle)

    @property
    def idle_s(self) -> float:
        """Seconds without anything to do, since the start."""
        return self._idle.idle_s


class BusyAlarm:
    """Call `check` at intervals; it is True once for each time in which the loop is busy."""

    def __init__(self, idle_s: float, now: float) -> None:
        self._idle_s, self._at = idle_s, now  # at the last check
        self._before = 1.0  # share of idle time in the interval before the last check
        self._raised = False

    def check(self, idle_s: float, now: float) -> bool:
        share = (idle_s - self._idle_s) / (now - self._at)
        busy = max(share, self._before) < BUSY
        raised = busy and not self._raised
        self._raised = busy or (self._raised and share < CALM)
        self._idle_s, self._at, self._before = idle_s, now, share
        return raised


async def warn_when_busy(loop: MeasuredLoop, clock: Callable[[], float] = time.monotonic) -> None:
    """Log it, forever."""
    alarm = BusyAlarm(loop.idle_s, clock())
    while True:
        await asyncio.sleep(INTERVAL_S)
        if alarm.check(loop.idle_s, clock()):
            logger.warning(
                "this process is never idle, so text comes late: lower max_sessions, or use more fronts or replicas"
            )


def new_loop() -> asyncio.AbstractEventLoop:
    """A measured loop where asyncio's own is one on a selector, which it is not on Windows."""
    own: Any = asyncio.new_event_loop()
    if not isinstance(own, asyncio.SelectorEventLoop):
        return own
    own.close()
    return MeasuredLoop()
