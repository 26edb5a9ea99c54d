"""Tracks the encoder's caches: the existing ones, the released ones, and those that a hung worker may still write."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

from ..requests import CacheHandle


class CacheRegistry:
    """Caches by the number of their handle. The engine locks it, except for the finalizers of handles."""

    def __init__(self) -> None:
        self._finalizers: dict[int, weakref.finalize[Any, CacheHandle]] = {}  # a call appends to `_released`
        self._released: deque[int] = deque()
        self._locked: dict[int, set[int]] = {}  # by the generation of the hung worker

    def __len__(self) -> int:
        """Caches that exist or wait to be freed."""
        return len(self._finalizers.keys() | set(self._released))

    @property
    def any_released(self) -> bool:
        """Whether released caches wait to be freed."""
        return bool(self._released)

    @property
    def hung(self) -> int:
        """Workers that still lock caches."""
        return len(self._locked)

    def watch(self, handle: CacheHandle) -> None:
        """Release the cache when its handle is collected."""
        known = self._finalizers.get(handle.number)
        if known is None or not known.alive:
            # A finalizer runs in any thread, under any lock: it only appends.
            finalizer = weakref.finalize(handle, self._released.append, handle.number)
            finalizer.atexit = False
            self._finalizers[handle.number] = finalizer

    def release(self, handle: CacheHandle) -> bool:
        """Release the cache now; False if there is none."""
        finalizer = self._finalizers.get(handle.number)
        if finalizer is None:
            return False
        finalizer()
        return True

    def to_free(self, busy: Collection[int] = ()) -> Iterator[int]:
        """Released caches that no hung worker uses, each once. Those that are `busy` stay released."""
        for _ in range(len(self._released)):
            number = self._released.popleft()
            if number in busy:
                self._released.append(number)
                continue
            if self.is_locked(number):  # `unlock` releases it again
                continue
            if number in self._finalizers and not self._finalizers[number].alive:
                del self._finalizers[number]
            yield number

    def lock(self, generation: int, numbers: set[int]) -> None:
        """Do not free these caches: the worker of that generation hangs and may write to them."""
        self._locked[generation] = numbers

    def unlock(self, generation: int) -> bool:
        """Unlock and release the caches of the worker of that generation; False if it locks none."""
        numbers = self._locked.pop(generation, None)
        if numbers is None:
            return False
        self._released += numbers
        return True

    def is_locked(self, number: int) -> bool:
        return any(number in numbers for numbers in self._locked.values())
