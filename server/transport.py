"""How messages of one client come and go: the part of a dialect that knows sockets."""

from __future__ import annotations

from typing import Protocol, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from .messages import Code, ProtocolError

Received = TypeVar("Received", covariant=True)
Data = str | bytes


class ClientLeft(Exception):
    """The connection is gone, with or without goodbye."""


class Transport(Protocol[Received]):
    """One connection. All raise `ClientLeft` when it is gone."""

    async def open(self) -> None:
        """Do what comes before the first message."""
        ...

    async def receive(self) -> Received:
        """Wait for one message. Raises `ProtocolError` for one that is too large or makes no sense."""
        ...

    async def send(self, data: Data) -> None:
        """Send one message; waits while the client does not read."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """End the connection."""
        ...


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
