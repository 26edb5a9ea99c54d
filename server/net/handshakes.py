"""TLS for uvicorn, within the server's limits."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

from uvicorn.server import ServerState

from .connections import LimitedProtocol


def over_tls(http: type[LimitedProtocol], context: ssl.SSLContext) -> type[asyncio.Protocol]:
    """`http` behind a TLS handshake that counts as a connection and has the deadline of a request.

    asyncio's own TLS server calls `connection_made` only after the handshake, so it does not limit waiting handshakes.
    """

    class Configured(TlsHandshake):
        def __init__(self, server_state: ServerState, **others: Any) -> None:
            super().__init__(http(server_state=server_state, **others), server_state, context)

    return Configured


class TlsHandshake(asyncio.Protocol):
    """See `over_tls`."""

    def __init__(self, http: LimitedProtocol, state: ServerState, context: ssl.SSLContext) -> None:
        self._http = http
        self._connections = state.connections
        self._context = context
        self._early_data = b""  # received before the handshake task has switched protocols

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(cast(Any, self))
        if len(self._connections) > self._http.max_connections:
            self._transport.abort()
        else:
            self._transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._handshake())

    def data_received(self, data: bytes) -> None:
        self._early_data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(cast(Any, self))

    def shutdown(self) -> None:
        """uvicorn calls this on every open connection when it stops."""
        self._transport.abort()

    async def _handshake(self) -> None:
        loop, http = asyncio.get_running_loop(), self._http
        tls: asyncio.Transport | None = None
        with suppress(OSError):  # ssl.SSLError and the timeout are OSErrors
            tls = await loop.start_tls(
                self._transport, self, self._context, server_side=True, ssl_handshake_timeout=http.request_timeout_s
            )
        self._connections.discard(cast(Any, self))
        if tls is not None and not tls.is_closing():
            tls.set_protocol(http)
            http.connection_made(tls)
            if self._early_data:
                http.data_received(self._early_data)
