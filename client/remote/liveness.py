"""A websocket whose other end is lost when it has said nothing at all for a while."""

from __future__ import annotations

import asyncio
from typing import Final

from websockets.asyncio.client import ClientConnection

SILENT_S: Final = 45.0  # the server pings every 20 s, also while it reads nothing


class AttentiveConnection(ClientConnection):
    """Breaks when nothing has come for `SILENT_S`: a network that is gone says nothing, and TCP alone finds that out
    after minutes, or never.

    Pings of its own cannot tell: the answer queues behind audio that the server has not taken yet, and a file sent
    faster than it can be recognized must not break its own connection. While this side does not read it hears nothing.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._looking = self.loop.call_later(SILENT_S, self._look)

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._looking.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        if not self.transport.is_reading():
            self._heard = self.loop.time()
        if (left := self._heard + SILENT_S - self.loop.time()) <= 0:
            self.transport.abort()
        else:
            self._looking = self.loop.call_later(left, self._look)
