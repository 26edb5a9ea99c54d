"""A websocket that closes when the other end is silent for too long."""

from __future__ import annotations

import asyncio
from typing import Final

from websockets.asyncio.client import ClientConnection

SILENT_S: Final = 15.0  # the server pings every 5 s, even while it reads nothing


class MonitoredConnection(ClientConnection):
    """Aborts when no data arrives for `SILENT_S`: TCP alone notices a dead network after minutes or never.

    It sends no pings: their answers would wait behind audio that the server has not read, so sending a file faster than
    real time would break the connection. Time in which this side does not read does not count.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._last_data = self.loop.time()
        self._check_timer = self.loop.call_later(SILENT_S, self._check)

    def data_received(self, data: bytes) -> None:
        self._last_data = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._check_timer.cancel()
        super().connection_lost(exc)

    def _check(self) -> None:
        if not self.transport.is_reading():
            self._last_data = self.loop.time()
        if (left := self._last_data + SILENT_S - self.loop.time()) <= 0:
            self.transport.abort()
        else:
            self._check_timer = self.loop.call_later(left, self._check)
