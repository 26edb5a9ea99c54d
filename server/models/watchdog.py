"""Looks after the engine: replaces a worker that hangs, and finds out when the encoder answers again."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...streaming.engine.engine import Engine

EVERY_S: Final = 1.0
PROBE_EVERY: Final = 10  # looks
MOST_PROBES: Final = 18  # in a row without an answer, three minutes of them, before the engine is given up
PROBE: Final = np.zeros(1_600, np.float32)  # 100 ms of silence

logger = logging.getLogger("xlsr_live.server")


class Watchdog:
    """Call `look` about once a second."""

    def __init__(self, engine: Engine, stall_s: float) -> None:
        self._engine = engine
        self._stall_s = stall_s
        self._probe: Future[NDArray[np.float32]] | None = None
        self._looks = 0  # since the last probe
        self._asked = 0  # probes, since an answer

    def look(self) -> None:
        """Replace the worker if it hangs. While nobody knows whether the encoder answers, ask it something: a server
        that is not ready is asked nothing by others. If that fails again and again, a process that begins anew is the
        only cure (a GPU's context, once broken, stays so): close the engine.
        """
        replaced = self._engine.replace_stuck_worker(self._stall_s)
        self._looks += 1
        if self._engine.healthy or not self._engine.alive:
            self._asked = 0
        elif replaced or (self._looks >= PROBE_EVERY and (self._probe is None or self._probe.done())):
            if self._asked == MOST_PROBES:
                logger.error("the model has failed %d probes in a row; giving up", self._asked)
                self._engine.close(timeout=0)
                return
            self._looks = 0
            self._asked += 1
            self._probe = self._engine.submit(PROBE, deadline=0.0)
