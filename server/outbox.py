"""Events on their way to one client, which may read them slowly or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from ..streaming.events import Event, Partial
from .messages import Code, ProtocolError

CONGESTED: Final = 16  # events waiting; below this every partial is delivered


class Outbox:
    """Never makes its writers wait, so that a slow client cannot hold up the engine.

    The limit has a policy: once `CONGESTED` events wait, a partial replaces the one before it (the newer says all that
    the older did); once `limit` wait, the client is given up. `replaced` counts.
    """

    def __init__(self, limit: int) -> None:
        self.replaced = 0
        self._limit = limit
        self._events: deque[Event] = deque()
        self._finished = self._woken = False
        self._changed = asyncio.Event()

    def put(self, event: Event) -> None:
        """Queue one event; ignored after `finish`. Raises `ProtocolError` when the client is too far behind."""
        if self._finished:
            return
        last = self._events[-1] if len(self._events) >= CONGESTED else None
        if isinstance(event, Partial) and isinstance(last, Partial) and last.utterance == event.utterance:
            self._events[-1] = event
            self.replaced += 1
            return
        if len(self._events) >= self._limit:
            raise ProtocolError(Code.SLOW_READER, f"{self._limit} events were left unread")
        self._events.append(event)
        self._changed.set()

    def wake(self) -> None:
        """Let the reader of this box look around: it gets None."""
        self._woken = True
        self._changed.set()

    def finish(self) -> None:
        """End the iteration after what is queued now."""
        self._finished = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[Event | None]:
        while True:
            while self._events:
                yield self._events.popleft()
            if self._woken:
                self._woken = False
                yield None
                continue
            if self._finished:
                return
            self._changed.clear()
            await self._changed.wait()
