"""From which sample another server can continue the session.

A new session decides as this one only if its detector has had time to settle, and if its frames lie on the same grid.
12 s before the newest audio without a final let the detector settle (`python -m tests.load.kills`). Frames of the
detector (30 ms) and chunks of Silero (32 ms) meet every 480 ms. At the client's rate this may be no whole sample; then
the grid is coarser. A flush starts a new grid.
"""

from __future__ import annotations

from collections import deque
from math import gcd
from typing import Final

from ..audio.silero import CHUNK
from ..audio.vad import FRAME
from ..frames import SAMPLE_RATE, ms

SETTLING: Final = ms(12_000)
_GRID: Final = FRAME * CHUNK // gcd(FRAME, CHUNK)  # samples at 16 kHz
_MOST_GRIDS: Final = 64  # of flushes within `SETTLING`; further ones do not count


class SafeSample:
    """`sample` at the client's rate is the first of the session, or its origin; `position` is the same at 16 kHz."""

    def __init__(self, sample_rate: int, sample: int, position: int) -> None:
        self._safe = sample
        self._grids = deque([(sample, position)])
        common = gcd(_GRID * sample_rate, SAMPLE_RATE)
        self._period = _GRID * sample_rate // common  # at the client's rate
        self._step = _GRID * SAMPLE_RATE // common  # at 16 kHz

    def flushed(self, sample: int, position: int) -> None:
        """The client flushed here."""
        if len(self._grids) < _MOST_GRIDS:
            self._grids.append((sample, position))

    def at(self, position: int) -> int:
        """The safe sample, at the client's rate, if all before `position` (at 16 kHz) is final. It never goes back."""
        least = position - SETTLING
        while len(self._grids) > 1 and self._grids[1][1] <= least:
            self._grids.popleft()
        sample, begin = self._grids[0]
        self._safe = max(self._safe, sample + max(0, least - begin) // self._step * self._period)
        return self._safe
