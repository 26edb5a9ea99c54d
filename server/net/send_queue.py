"""The queue of outgoing messages of one client, which may read slowly or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from typing import Final

from ...streaming.protocol.codes import Code, ProtocolError
from ..transport import Data

CONGESTED: Final = 16  # waiting messages; below this every partial is delivered
MAX_BYTES: Final = 4 << 20  # of waiting messages


class SendQueue:
    """Writers never wait, so a slow client does not delay the engine.

    From `CONGESTED` waiting messages on, a message with a `topic` replaces the last one if that has the same topic (the
    newer contains the older); `replaced` counts these. At `limit` messages or `MAX_BYTES` the client is dropped.
    """

    def __init__(self, limit: int) -> None:
        self.replaced = 0
        self._limit = limit
        self._bytes = 0  # waiting
        self._waiting: deque[tuple[Data, Hashable]] = deque()
        self._finished = self._wake_pending = False
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
            raise ProtocolError(Code.SLOW_READER, f"the client has {self._limit} unread events")
        if self._bytes >= MAX_BYTES:
            raise ProtocolError(Code.SLOW_READER, f"the client has {MAX_BYTES} bytes of unread events")
        self._bytes += len(data)
        self._waiting.append((data, topic))
        self._changed.set()

    async def room(self) -> None:
        """Wait until the client has read most of the queue: for dialects that answer every message."""
        while len(self._waiting) >= CONGESTED and not self._finished:
            self._taken.clear()
            await self._taken.wait()

    def wake(self) -> None:
        """Make the iteration yield None once, so the writer can do other work."""
        self._wake_pending = True
        self._changed.set()

    def finish(self) -> None:
        """End the iteration after the messages queued so far."""
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
            if self._wake_pending:
                self._wake_pending = False
                yield None
                continue
            if self._finished:
                return
            self._changed.clear()
            await self._changed.wait()
