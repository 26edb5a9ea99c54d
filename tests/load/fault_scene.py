"""The parts of a fault: programs with their expected events, the server, and a websocket written by hand."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace
from websockets.exceptions import InvalidStatus
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.streaming.protocol.events import Event, SessionResumed, SessionStarted, from_json, to_json

from tests.support.bad_link import BadLink
from tests.support.wire import END, Conversation, packets

LOOPBACK = "127.0.0.1"
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
START = '{"type":"start"}'
AGAIN_S = 0.2  # after a refusal: three encoder failures in a row make the server refuse for a moment


@dataclass(frozen=True)
class Program:
    """All messages of a client, and the events that it must receive."""

    start: str
    data: bytes
    packet: int  # bytes
    expected: list[str] = field(default_factory=list)

    @property
    def messages(self) -> list[str | bytes]:
        return [self.start, *packets(self.data, self.packet), END]


def timeless(events: Sequence[Event]) -> list[str]:
    """Events without their session names, lags and levels, which depend on the clock."""
    return [
        to_json(replace(event, lag_ms=0.0, level=0))
        for event in events
        if not isinstance(event, SessionStarted | SessionResumed)
    ]


@dataclass
class Scene:
    port: int
    programs: list[Program]
    link: BadLink | None

    @property
    def url(self) -> str:
        return f"ws://{LOOPBACK}:{self.port}/v1/stream"


async def patiently(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat the attempt until the server accepts it."""
    while True:
        try:
            return await attempt()
        except InvalidStatus as refusal:
            if refusal.response.status_code != 503:
                raise
        except ConnectionProblem as problem:
            if problem.status != 503:
                raise
        await asyncio.sleep(AGAIN_S)


# ── a websocket by hand ──


class Raw:
    """A connection with full control over every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, scene: Scene, made: socket.socket | None = None, host: str = LOOPBACK) -> Raw:
        made = made or socket.socket()
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, (host, scene.port))
        return cls(*await asyncio.open_connection(sock=made))

    @classmethod
    async def upgraded(
        cls, scene: Scene, make: Callable[[], socket.socket] = socket.socket, host: str = LOOPBACK
    ) -> Raw:
        """An open websocket."""
        while True:
            raw = await cls.connect(scene, make(), host)
            raw.writer.write(handshake(host, scene.port))
            head = await raw.reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 101 "):
                return raw
            assert head.startswith(b"HTTP/1.1 503 "), head
            raw.writer.close()
            await asyncio.sleep(AGAIN_S)

    def send(self, opcode: int, payload: bytes | str, **how: Any) -> None:
        self.writer.write(frame(opcode, payload.encode() if isinstance(payload, str) else payload, **how))

    def send_program(self, program: Program, share: float = 1.0) -> None:
        """Send the first `share` of a program."""
        self.send(TEXT, program.start)
        for packet in packets(program.data[: int(len(program.data) * share)], program.packet):
            self.send(BINARY, packet)

    async def receive(self) -> Conversation:
        """All events until the server closes; the code is None if the connection is cut without a close frame."""
        events: list[Event] = []
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    return Conversation(events, int.from_bytes(payload[:2], "big"), payload[2:].decode())
                if opcode == TEXT:
                    events.append(from_json(payload))
        return Conversation(events, None, None)

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame from the server."""
        first, second = await self.reader.readexactly(2)
        size = second & 127
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        return first & 15, await self.reader.readexactly(size)

    async def ended(self) -> None:
        """Wait until the server has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass

    def reset(self) -> None:
        """Cut the connection with an RST and drop unsent data, unless the server has already closed it."""
        if self.writer.is_closing():
            return
        made = self.writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def handshake(host: str, port: int) -> bytes:
    key = b64encode(os.urandom(16)).decode()
    return (
        f"GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def frame(
    opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, rsv: int = 0, size: int | None = None
) -> bytes:
    """A client frame; `size` may be false."""
    size = len(payload) if size is None else size
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    head = bytes([final << 7 | rsv << 4 | opcode, masked << 7 | short])
    head += size.to_bytes(2, "big") if short == 126 else size.to_bytes(8, "big") if short == 127 else b""
    return head + (bytes(4) if masked else b"") + payload  # a mask of zeros changes nothing


async def closed_with(raw: Raw, *codes: int | None) -> Conversation:
    received = await raw.receive()
    raw.writer.close()
    assert received.code in codes, received
    return received
