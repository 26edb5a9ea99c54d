"""Opens a websocket to a server, directly or through a proxy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidURI

from ..errors import ConnectionProblem
from ..proxies import proxy_for
from .liveness import MonitoredConnection
from .problems import connection_problem

OPEN_TIMEOUT: Final = 10.0  # seconds for the connection and the handshake
MESSAGE_QUEUE: Final = 4_096  # unread messages; with more the server waits


class Servers:
    """One address, or those of several servers with the same model."""

    def __init__(self, urls: Sequence[str], token: str | None) -> None:
        if not urls:
            raise ValueError("there is no address to connect to")
        self.current = 0  # of the newest connection
        self._urls = urls
        self._token = token

    @property
    def url(self) -> str:
        """The current address."""
        return self._urls[self.current]

    def next(self) -> None:
        """Turn to the next address; the first follows the last."""
        self.current = (self.current + 1) % len(self._urls)

    async def open(self, *, resumes: bool = False) -> ClientConnection:
        """Connect to the current address. `resumes`: to resume a session, which a full server allows. Raises
        `ConnectionProblem`.
        """
        return await open_connection(resuming(self.url) if resumes else self.url, self._token)

    async def open_within(self, seconds: float) -> ClientConnection:
        """Connect to the first address that takes a client. While none does, but one says when to try again, wait so
        long, for `seconds` in all. Raises `ConnectionProblem`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                return await self.open_any()
            except ConnectionProblem as problem:
                if (pause := next_try_s(problem)) is None or loop.time() + pause > deadline:
                    raise
                await asyncio.sleep(pause)

    async def open_any(self) -> ClientConnection:
        """Connect to the first address that answers, from the current one on. Raises the `ConnectionProblem` with the
        soonest next try, or else the first one.
        """
        problems: list[ConnectionProblem] = []
        for _ in self._urls:
            try:
                return await self.open()
            except ConnectionProblem as problem:
                problems.append(problem)
                self.next()
        raise min(problems, key=lambda problem: float("inf") if problem.retry_after is None else problem.retry_after)


def next_try_s(problem: ConnectionProblem) -> float | None:
    """Seconds until the next attempt, if the server says when: somewhat later, so clients do not come all at once."""
    return None if problem.retry_after is None else problem.retry_after * random.uniform(1.0, 1.5)


def resuming(url: str) -> str:
    """The address for a client that resumes a session."""
    parts = urlsplit(url)
    return parts._replace(query="&".join(filter(None, [parts.query, "resume=1"]))).geturl()


async def open_connection(url: str, token: str | None) -> ClientConnection:
    """Connect; `token` goes into the `Authorization` header. Raises `ConnectionProblem`."""
    proxy = None
    try:
        proxy = proxy_for(url)
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
    except (OSError, ValueError, ImportError, InvalidHandshake, InvalidProxy, InvalidURI, ConnectionClosed) as error:
        raise connection_problem(url, error, proxy, OPEN_TIMEOUT) from error
