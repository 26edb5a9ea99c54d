"""A second thread decodes answers whose search takes long, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..errors import EngineError

T = TypeVar("T")


class SearchThread:
    """`on_done` gets the time, when the search was submitted, and its deadline."""

    def __init__(self, clock: Callable[[], float], on_done: Callable[[float, float, float], None]) -> None:
        self._clock = clock
        self._on_done = on_done
        self._started: float | None = None  # of the present search
        self._executor = ThreadPoolExecutor(1, "xlsr-search")

    @property
    def busy_s(self) -> float:
        """How long the present search has taken; 0 without one."""
        started = self._started
        return 0.0 if started is None else self._clock() - started

    def submit(self, run: Callable[[], T], deadline: float, wanted: Callable[[], bool]) -> Future[T | None]:
        """Raises `EngineError` after `close`."""
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
        """Finish what was submitted, without waiting for it."""
        self._executor.shutdown(wait=False)
