"""Dialects that are spoken over websockets."""

from __future__ import annotations

from typing import ClassVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from ...streaming.protocol.codes import Code, ProtocolError
from ..access.access import subprotocol
from ..transport import ClientLeft, Data, Transport
from .admission import Seat
from .stream import ClientStream


def within(limit: int, data: Data) -> Data:
    """A message that is not too large. Raises `ProtocolError` for others."""
    size = len(data) if isinstance(data, bytes) else len(data.encode())
    if size > limit:
        raise ProtocolError(Code.MESSAGE_TOO_LARGE, f"{size} bytes in one message; at most {limit} are taken")
    return data


class WebSocketTransport:
    """Text messages are str, binary ones bytes. `subprotocol`: the one to choose of those that the client offers."""

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
        return within(self._limit, data)

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


class WebSocketStream(ClientStream[Data]):
    """May raise `ConfigError` when it is made: the address asks for what cannot be."""

    subprotocols: ClassVar[tuple[str, ...]] = ()  # one of them is agreed on if it is offered

    def __init__(self, name: str, websocket: WebSocket, seat: Seat) -> None:
        super().__init__(name, self.transport(websocket, seat), seat)

    def transport(self, websocket: WebSocket, seat: Seat) -> Transport[Data]:
        chosen = subprotocol(websocket, self.subprotocols)
        return WebSocketTransport(websocket, seat.settings.max_message_bytes, chosen)
