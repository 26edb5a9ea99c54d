"""The open streams of a server: counts them, and ends them when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

DROP_S: Final = 1.0


class Drainable(Protocol):
    """One client's stream or upload, in any dialect."""

    name: str

    def leave(self, within_s: float) -> bool:
        """Ask the client to move to another server. False if it cannot."""
        ...

    def shut_down(self) -> None:
        """Take no more audio, finish the accepted audio, then close."""
        ...

    def drop(self) -> None:
        """Close now, finished or not."""
        ...


class SessionRegistry:
    """Belongs to the server's event loop; not safe in other threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0  # slots in use
        self.draining = False
        self.empty = asyncio.Event()
        self.empty.set()
        self._open: dict[str, Drainable] = {}
        self._grace: asyncio.Timeout | None = None

    @property
    def streams(self) -> int:
        """Number of open streams, with or without a slot."""
        return len(self._open)

    @property
    def full(self) -> bool:
        return self.count >= self.limit

    @contextmanager
    def registered(self, stream: Drainable, slots: int = 1) -> Generator[None]:
        """Register `stream`, which uses `slots` slots, for the length of the block."""
        self._open[stream.name] = stream
        self.count += slots
        self.empty.clear()
        try:
            yield
        finally:
            del self._open[stream.name]
            self.count -= slots
            if not self._open:
                self.empty.set()

    async def drain(self, grace_s: float, move_s: float = 0.0) -> None:
        """Let every stream finish; for `move_s` seconds its client may move to another server instead. Drop those still
        open after `grace_s` seconds, or when `hurry` is called.
        """
        self.draining = True
        moving = [stream for stream in self._open.values() if move_s and stream.leave(move_s)]
        for stream in list(self._open.values()):
            if stream not in moving:
                stream.shut_down()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s) as self._grace:
                try:
                    if moving:
                        await self._wait(move_s)
                    for stream in moving:
                        if stream.name in self._open:
                            stream.shut_down()
                    await self.empty.wait()
                finally:
                    self._grace = None
        for stream in list(self._open.values()):
            stream.drop()
        await self._wait(DROP_S)  # for their close frames; a stuck stream sends none

    async def _wait(self, longest_s: float) -> None:
        """Until all streams have ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self.empty.wait()

    def hurry(self) -> None:
        """End the grace period of a running `drain`."""
        if self._grace is not None and not self._grace.expired():
            self._grace.reschedule(asyncio.get_running_loop().time())
