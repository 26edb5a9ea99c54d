"""Dialects that are spoken over websockets."""

from __future__ import annotations

from typing import ClassVar

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..streaming.recognizer import Recognizer
from .messages import Code, ProtocolError
from .refusals import refusal
from .settings import ServerSettings
from .stream import ClientStream
from .transport import ClientLeft, Data


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
        size = len(data) if isinstance(data, bytes) else len(data.encode())
        if size > self._limit:
            text = f"{size} bytes in one message; at most {self._limit} are taken"
            raise ProtocolError(Code.MESSAGE_TOO_LARGE, text)
        return data

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


class WebSocketStream(ClientStream[str | bytes]):
    """May raise `ConfigError` when it is made: the address asks for what cannot be."""

    subprotocols: ClassVar[tuple[str, ...]] = ()  # one of them is agreed on if it is offered: browsers insist

    def __init__(self, name: str, websocket: WebSocket, recognizer: Recognizer, settings: ServerSettings) -> None:
        offered: list[str] = websocket.scope.get("subprotocols", [])
        chosen = next((each for each in offered if each in self.subprotocols), None)
        transport = WebSocketTransport(websocket, settings.max_message_bytes, chosen)
        super().__init__(name, transport, recognizer, settings)

    @staticmethod
    def refused(code: Code, why: str | None = None) -> Response:
        """The HTTP answer to a client that is not let in."""
        return refusal(code, why)
