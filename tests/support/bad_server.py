"""A websocket server with a scripted handler, and a client that meets it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.remote.websocket import connect
from xlsr_live.streaming.protocol.events import (
    Event,
)

Handler = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def bad_server(handler: Handler, status: HTTPStatus | None = None) -> AsyncIterator[str]:
    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        response = connection.respond(status, "no\n") if status else None
        if response:
            response.headers["Retry-After"] = "7"
        return response

    async with serve(handler, "127.0.0.1", 0, process_request=refuse) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream"


def against(handler: Handler, status: HTTPStatus | None = None) -> tuple[list[Event], ConnectionProblem]:
    """The events that a client receives from a server, and the final problem."""
    events: list[Event] = []

    async def run() -> ConnectionProblem:
        async with bad_server(handler, status) as url:
            try:
                async with connect(url) as stream:
                    async for event in stream:
                        events.append(event)  # events before the problem count
            except ConnectionProblem as problem:
                return problem
        raise AssertionError("no problem")

    return events, asyncio.run(run())


async def silent(connection: ServerConnection) -> None:
    await connection.recv()
