"""Packets of the Wyoming protocol, and the TCP connection that carries them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import msgspec

from ....streaming.protocol.codes import Code, ProtocolError
from ...transport import ClientLeft, Data

WYOMING_VERSION: Final = "1.8.0"  # of the packets that the server sends
LONGEST_HEADER: Final = 1 << 16
PARTING_S: Final = 3.0  # for the client to hang up


class Packet(msgspec.Struct):
    """A line of JSON, then `data_length` bytes of JSON, then `payload_length` bytes of audio."""

    type: str
    data: dict[str, Any] = {}
    data_length: int | None = None
    payload_length: int | None = None
    payload: bytes = b""


def encode_packet(kind: str, data: dict[str, Any]) -> bytes:
    body = msgspec.json.encode(data) if data else b""
    head = {"type": kind, "version": WYOMING_VERSION} | ({"data_length": len(body)} if body else {})
    return msgspec.json.encode(head) + b"\n" + body


class WyomingTransport:
    """Packets with more than `limit` bytes after the header are refused."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> None:
        self._reader = reader
        self._writer = writer
        self._limit = limit
        self._gone = asyncio.Event()

    async def open(self) -> None:
        """The protocol has no greeting."""

    async def receive(self) -> Packet:
        try:
            packet = msgspec.json.decode(await self._reader.readline(), type=Packet)
            lengths = packet.data_length or 0, packet.payload_length or 0
            if min(lengths) < 0:
                raise ClientLeft
            if sum(lengths) > self._limit:
                await self._skip(sum(lengths))
                text = f"{sum(lengths)} bytes in one message; the limit is {self._limit}"
                raise ProtocolError(Code.MESSAGE_TOO_LARGE, text)
            if lengths[0]:
                packet.data |= msgspec.json.decode(await self._reader.readexactly(lengths[0]), type=dict[str, Any])
            if lengths[1]:
                packet.payload = await self._reader.readexactly(lengths[1])
            return packet
        except (OSError, EOFError, ValueError, msgspec.DecodeError, RecursionError) as error:
            self._gone.set()
            raise ClientLeft from error  # the end, or bytes after which no packet boundary can be found

    async def _skip(self, count: int) -> None:
        while count > 0:
            got = len(await self._reader.read(min(count, LONGEST_HEADER)))
            if not got:
                raise ClientLeft
            count -= got

    async def send(self, data: Data) -> None:
        try:
            self._writer.write(data.encode() if isinstance(data, str) else data)
            await self._writer.drain()
        except OSError as error:
            raise ClientLeft from error

    async def close(self, code: int, reason: str) -> None:
        """Let the client hang up first: a reset would destroy what a client that still sends has not yet read."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(PARTING_S):
                self._writer.write_eof()
                await self._gone.wait()
