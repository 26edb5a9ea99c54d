"""The interface of an engine to sessions and servers. The engine may run in another process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from ..overload import Level
from ..requests import CachedFeatures, CachedStep, CacheHandle
from .counters import EngineCounters
from .encoder import Float32

T = TypeVar("T")


class EngineService(Protocol):
    """See `Engine`. All methods are safe in any thread."""

    @property
    def counters(self) -> EngineCounters: ...
    @counters.setter
    def counters(self, counters: EngineCounters) -> None: ...
    @property
    def alive(self) -> bool: ...
    @property
    def healthy(self) -> bool: ...
    @property
    def working_s(self) -> float: ...
    @property
    def searching_s(self) -> float: ...
    @property
    def queued(self) -> int: ...
    @property
    def level(self) -> Level: ...
    def submit(
        self,
        samples: Float32,
        *,
        deadline: float,
        wanted: Callable[[], bool] = ...,
        reuse: CachedStep | CachedFeatures | None = None,
        language: str | None = None,
    ) -> Future[Float32]: ...
    def search(
        self, run: Callable[[], T], *, deadline: float, wanted: Callable[[], bool] = ...
    ) -> Future[T | None]: ...
    def release(self, handle: CacheHandle) -> None: ...
    def replace_stuck_worker(self, patience_s: float) -> bool: ...
    def close(self, timeout: float | None = None) -> None: ...
