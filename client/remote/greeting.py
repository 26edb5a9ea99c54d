"""The first and the last message of a connection."""

from __future__ import annotations

import asyncio
from typing import Final

from websockets.asyncio.client import ClientConnection

from ...streaming.errors import EventError
from ...streaming.protocol.events import Error, Event, from_json
from ...streaming.protocol.messages import Start, to_json
from ..errors import ConnectionProblem

ANSWER_S: Final = 10.0


async def greet(connection: ClientConnection, start: Start) -> Event:
    """Send the first message over a new connection and return the answer. Raises `ConnectionProblem`."""
    await connection.send(to_json(start))
    try:
        async with asyncio.timeout(ANSWER_S):
            return parse(await connection.recv())
    except TimeoutError:
        connection.transport.abort()  # a closing handshake would wait for another answer
        raise ConnectionProblem("the server did not answer the first message", code="timeout") from None


def refusal(event: Event) -> ConnectionProblem:
    """The problem when the answer is not the expected one."""
    code, why = (event.code, event.message) if isinstance(event, Error) else ("not_our_protocol", str(event))
    return ConnectionProblem(f"the session cannot continue on this connection: {why}", code=code)


def parse(message: str | bytes) -> Event:
    """The event of a message. Raises `ConnectionProblem` if it is none."""
    try:
        return from_json(message)
    except EventError:
        raise ConnectionProblem(
            "the server does not use this protocol: is it an xlsr-live server, and the path /v1/stream?",
            code="not_our_protocol",
        ) from None


def closing_problem(connection: ClientConnection, error: Error | None) -> ConnectionProblem:
    """The problem when the server has closed the connection, after this error."""
    if error:
        return ConnectionProblem(f"the server ended the session: {error.message}", code=error.code)
    code, reason = connection.close_code, connection.close_reason
    why = f"{code} {reason}".strip() if code else "no reason given"
    return ConnectionProblem(f"the server closed the connection before the end ({why})", code="closed_early")
