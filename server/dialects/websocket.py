"""Dialects over websockets."""

from __future__ import annotations

from typing import ClassVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from ...streaming.protocol.codes import Code, ProtocolError
from ..access.access import subprotocol
from ..sessions.admission import Lease
from ..transport import ClientLeft, Data, Transport
from .base import Dialect


def check_size(limit: int, data: Data) -> Data:
    """Return the message. Raises `ProtocolError` if it has more than `limit` bytes."""
    size = len(data) if isinstance(data, bytes) else len(data.encode())
    if size > limit:
        raise ProtocolError(Code.MESSAGE_TOO_LARGE, f"{size} bytes in one message; the limit is {limit}")
    return data


class WebSocketTransport:
    """Text messages are str, binary ones bytes. `subprotocol`: the one to accept of those that the client offers."""

    def __init__(self, websocket: WebSocket, limit: int, subprotocol: str | None = None) -> None:
        self._websocket = websocket
        self._limit = limit
        self._subprotocol = subprotocol

    async def open(self) -> None:
        await self._websocket.accept(self._subprotocol)

    async def receive(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientLeft
        binary: bytes | None = message.get("bytes")
        data: str | bytes = message["text"] if binary is None else binary
        return check_size(self._limit, data)

    async def send(self, data: Data) -> None:
        try:
            await (self._websocket.send_text(data) if isinstance(data, str) else self._websocket.send_bytes(data))
        except (WebSocketDisconnect, RuntimeError) as error:  # RuntimeError: it was closed already
            raise ClientLeft from error

    async def close(self, code: int, reason: str) -> None:
        try:
            await self._websocket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ClientLeft from error


class WebSocketDialect(Dialect[Data]):
    """The constructor may raise `ConfigError`: the address asks for something impossible."""

    subprotocols: ClassVar[tuple[str, ...]] = ()  # one of them is accepted if the client offers it

    def __init__(self, name: str, websocket: WebSocket, lease: Lease) -> None:
        super().__init__(name, self.transport(websocket, lease), lease)

    def transport(self, websocket: WebSocket, lease: Lease) -> Transport[Data]:
        accepted = subprotocol(websocket, self.subprotocols)
        return WebSocketTransport(websocket, lease.settings.max_message_bytes, accepted)
