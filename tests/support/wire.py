"""A bare client of the native protocol, for tests that control every message."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from xlsr_live.server.run import RunningServer
from xlsr_live.streaming.live import StreamSession
from xlsr_live.streaming.protocol.events import Ack, Error, Event, Final, from_json

Message = str | bytes
END = '{"type":"end"}'


@dataclass(frozen=True)
class Conversation:
    """All events of one connection, and how the server closed it."""

    events: list[Event]
    code: int | None  # of the close frame
    reason: str | None

    @property
    def finals(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Final)]

    @property
    def errors(self) -> list[str]:
        return [event.code for event in self.events if isinstance(event, Error)]


def dial(url: str, **options: Any) -> connect:
    # No deadline for pongs: a server that is busy with a file does not read.
    return connect(url, compression=None, ping_timeout=None, **options)


async def talk(url: str, messages: Iterable[Message], **options: Any) -> Conversation:
    """Send `messages` as fast as the server takes them, and read until it closes."""
    async with dial(url, **options) as websocket:
        sender = asyncio.create_task(_send(websocket, messages))
        events = await listen(websocket)
        await sender
    return Conversation(events, websocket.close_code, websocket.close_reason)


async def _send(websocket: ClientConnection, messages: Iterable[Message]) -> None:
    try:
        for message in messages:
            await websocket.send(message)
    except ConnectionClosed:
        pass  # the events and the close code give the reason


async def listen(websocket: ClientConnection) -> list[Event]:
    """Every event until the connection closes, except acknowledgements, which depend on the clock."""
    events: list[Event] = []
    try:
        async for message in websocket:
            if not isinstance(event := from_json(message), Ack):
                events.append(event)
    except ConnectionClosed:
        pass
    return events


def packets(data: bytes, size: int = 3_200) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def census(server: RunningServer) -> dict[str, int]:
    """Counts of everything that a client could leave behind in the process of the server."""

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    gc.collect()
    return {
        "open": server.sessions.count,
        "tasks": asyncio.run_coroutine_threadsafe(tasks(), server.loop).result(60),
        "sessions": sum(type(one) is StreamSession for one in gc.get_objects()),
        "files": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
    }


def settles(look: Callable[[], object], at: object, within_s: float = 60) -> bool:
    """Whether `look()` becomes equal to `at`: sockets close a few iterations of the event loop after their streams."""
    deadline = time.monotonic() + within_s
    while look() != at:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
