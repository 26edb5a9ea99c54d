"""Watches an engine: replaces a worker that hangs, and probes an encoder that failed."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...streaming.engine.service import EngineService

INTERVAL_S: Final = 1.0  # between checks
PROBE_INTERVAL: Final = 10  # checks between probes
MAX_FAILED_PROBES: Final = 18  # in a row, three minutes, before the engine is closed
PROBE: Final = np.zeros(1_600, np.float32)  # 100 ms of silence

logger = logging.getLogger("xlsr_live.server")


class Watchdog:
    """Call `check` about once a second."""

    def __init__(self, engine: EngineService, stall_s: float) -> None:
        self._engine = engine
        self._stall_s = stall_s
        self.probe: Future[NDArray[np.float32]] | None = None  # the latest
        self._checks = 0  # since the last probe
        self._failed_probes = 0  # since the last answer

    def check(self) -> None:
        """Replace a worker that hangs, and probe an unhealthy encoder.

        An unready server gets no traffic that could prove recovery, so probes must. After `MAX_FAILED_PROBES`, close
        the engine: only a new process repairs a broken GPU context.
        """
        replaced = self._engine.replace_stuck_worker(self._stall_s)
        self._checks += 1
        if self._engine.healthy or not self._engine.alive:
            self._failed_probes = 0
        elif replaced or (self._checks >= PROBE_INTERVAL and (self.probe is None or self.probe.done())):
            if self._failed_probes == MAX_FAILED_PROBES:
                logger.error("the model has failed %d probes in a row; giving up", self._failed_probes)
                self._engine.close(timeout=0)
                return
            self._checks = 0
            self._failed_probes += 1
            self.probe = self._engine.submit(PROBE, deadline=0.0)
