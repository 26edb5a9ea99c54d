"""Opens a websocket to a server, directly or through a proxy."""

from __future__ import annotations

from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidURI

from ..proxies import proxy_for
from .liveness import MonitoredConnection
from .problems import connection_problem

OPEN_TIMEOUT: Final = 10.0  # seconds for the connection and the handshake
MESSAGE_QUEUE: Final = 4_096  # unread messages; with more the server waits


async def open_connection(url: str, token: str | None) -> ClientConnection:
    """Connect; `token` goes into the `Authorization` header. Raises `ConnectionProblem`."""
    proxy = proxy_for(url)
    try:
        return await open_websocket(
            url,
            additional_headers={"Authorization": f"Bearer {token}"} if token else {},
            open_timeout=OPEN_TIMEOUT,
            max_queue=MESSAGE_QUEUE,
            compression=None,  # audio compresses badly
            create_connection=MonitoredConnection,
            ping_timeout=None,  # see MonitoredConnection
            proxy=proxy.url if proxy else None,
        )
    except (OSError, ImportError, InvalidHandshake, InvalidProxy, InvalidURI, ConnectionClosed) as error:
        raise connection_problem(url, error, proxy, OPEN_TIMEOUT) from error
