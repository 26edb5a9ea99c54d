"""The open streams of one server: how many there may be, and how all of them end."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

DROP_S: Final = 1.0


class Stream(Protocol):
    """One client, in whatever dialect it speaks."""

    name: str

    def shut_down(self) -> None:
        """Take no more audio, finish what was accepted, then close."""
        ...

    def drop(self) -> None:
        """Close now, finished or not."""
        ...


class Sessions:
    """Lives on the server's event loop; nothing here may be called from another thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0  # places taken
        self.draining = False
        self.empty = asyncio.Event()
        self.empty.set()
        self._open: dict[str, Stream] = {}
        self._patience: asyncio.Timeout | None = None

    @property
    def streams(self) -> int:
        """All that are open, with a place or without."""
        return len(self._open)

    @property
    def full(self) -> bool:
        return self.count >= self.limit

    @contextmanager
    def entered(self, stream: Stream, places: int = 1) -> Generator[None]:
        """Have `stream` open for the length of the block. It takes so many places."""
        self._open[stream.name] = stream
        self.count += places
        self.empty.clear()
        try:
            yield
        finally:
            del self._open[stream.name]
            self.count -= places
            if not self._open:
                self.empty.set()

    async def drain(self, grace_s: float) -> None:
        """Let every stream finish; drop those that have not after `grace_s` seconds, or when `hurry` is called."""
        self.draining = True
        for stream in list(self._open.values()):
            stream.shut_down()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s) as self._patience:
                try:
                    await self.empty.wait()
                finally:
                    self._patience = None
        for stream in list(self._open.values()):
            stream.drop()
        with suppress(TimeoutError):
            async with asyncio.timeout(DROP_S):  # their close frames; one that is stuck gets none
                await self.empty.wait()

    def hurry(self) -> None:
        """End the grace of a `drain` under way."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())
