"""TLS for uvicorn, within the server's limits."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

from uvicorn.server import ServerState

from .connections import Impatient


def behind_tls(http: type[Impatient], context: ssl.SSLContext) -> type[asyncio.Protocol]:
    """`http` after a handshake, which counts as a connection and has the time of a request. asyncio's own comes before
    anybody is told of the connection: there may be any number, for a minute each.
    """

    class Handshake(_Handshake):
        def __init__(self, server_state: ServerState, **others: Any) -> None:
            super().__init__(http(server_state=server_state, **others), server_state, context)

    return Handshake


class _Handshake(asyncio.Protocol):
    def __init__(self, http: Impatient, state: ServerState, context: ssl.SSLContext) -> None:
        self._http = http
        self._connections = state.connections
        self._context = context
        self._early = b""  # what came right behind the handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(cast(Any, self))
        if len(self._connections) > self._http.most:
            self._transport.abort()
        else:
            self._transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._shake_hands())

    def data_received(self, data: bytes) -> None:
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(cast(Any, self))

    def shutdown(self) -> None:
        """Asked by uvicorn of every connection."""
        self._transport.abort()

    async def _shake_hands(self) -> None:
        loop, http = asyncio.get_running_loop(), self._http
        tls: asyncio.Transport | None = None
        with suppress(OSError):  # ssl.SSLError and what says that it took too long are such
            tls = await loop.start_tls(
                self._transport, self, self._context, server_side=True, ssl_handshake_timeout=http.patience
            )
        self._connections.discard(cast(Any, self))
        if tls is not None and not tls.is_closing():
            tls.set_protocol(http)
            http.connection_made(tls)
            if self._early:
                http.data_received(self._early)
