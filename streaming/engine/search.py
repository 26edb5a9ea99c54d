"""A second thread runs long searches, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..errors import EngineError

T = TypeVar("T")


class SearchThread:
    """Calls `on_done(now, submitted, deadline)` after each search, with times of the clock."""

    def __init__(self, clock: Callable[[], float], on_done: Callable[[float, float, float], None]) -> None:
        self._clock = clock
        self._on_done = on_done
        self._started: float | None = None  # start time of the current search
        self._executor = ThreadPoolExecutor(1, "xlsr-search")

    @property
    def busy_s(self) -> float:
        """Duration of the current search so far, in seconds; 0 without one."""
        started = self._started
        return 0.0 if started is None else self._clock() - started

    def submit(self, run: Callable[[], T], deadline: float, wanted: Callable[[], bool]) -> Future[T | None]:
        """Queue a search. Raises `EngineError` after `close`."""
        submitted = self._clock()

        def search() -> T | None:
            if not wanted():
                return None
            self._started = self._clock()
            try:
                result = run()
            finally:
                self._started = None
            self._on_done(self._clock(), submitted, deadline)
            return result

        try:
            return self._executor.submit(search)
        except RuntimeError as error:
            raise EngineError("the engine is closed") from error

    def close(self) -> None:
        """Finish the submitted searches without waiting for them."""
        self._executor.shutdown(wait=False)
