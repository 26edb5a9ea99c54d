"""Messages on their way to one client, which may read them slowly or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from typing import Final

from ...streaming.protocol.codes import Code, ProtocolError
from ..transport import Data

CONGESTED: Final = 16  # messages waiting; below this every partial is delivered
MOST_BYTES: Final = 4 << 20  # of messages waiting


class Outbox:
    """Never makes its writers wait, so that a slow client cannot hold up the engine.

    The limit has a policy: once `CONGESTED` messages wait, one with a `topic` replaces the last if that has the same
    (the newer says all that the older did); once `limit` wait, or `MOST_BYTES`, the client is given up. `replaced`
    counts.
    """

    def __init__(self, limit: int) -> None:
        self.replaced = 0
        self._limit = limit
        self._bytes = 0  # waiting
        self._waiting: deque[tuple[Data, Hashable]] = deque()
        self._finished = self._woken = False
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    def put(self, data: Data, topic: Hashable = None) -> None:
        """Queue one message; ignored after `finish`. Raises `ProtocolError` when the client is too far behind."""
        if self._finished:
            return
        if topic is not None and len(self._waiting) >= CONGESTED and self._waiting[-1][1] == topic:
            self._bytes += len(data) - len(self._waiting[-1][0])
            self._waiting[-1] = (data, topic)
            self.replaced += 1
            return
        if len(self._waiting) >= self._limit:
            raise ProtocolError(Code.SLOW_READER, f"{self._limit} events were left unread")
        if self._bytes >= MOST_BYTES:
            raise ProtocolError(Code.SLOW_READER, f"{MOST_BYTES} bytes of events were left unread")
        self._bytes += len(data)
        self._waiting.append((data, topic))
        self._changed.set()

    async def room(self) -> None:
        """Wait until the client has read most: for dialects in which every message is answered."""
        while len(self._waiting) >= CONGESTED and not self._finished:
            self._taken.clear()
            await self._taken.wait()

    def wake(self) -> None:
        """Let the reader of this box look around: it gets None."""
        self._woken = True
        self._changed.set()

    def finish(self) -> None:
        """End the iteration after what is queued now."""
        self._finished = True
        self._changed.set()
        self._taken.set()

    async def __aiter__(self) -> AsyncIterator[Data | None]:
        while True:
            while self._waiting:
                data, _ = self._waiting.popleft()
                self._bytes -= len(data)
                self._taken.set()
                yield data
            if self._woken:
                self._woken = False
                yield None
                continue
            if self._finished:
                return
            self._changed.clear()
            await self._changed.wait()
