"""Connections to another front of the same server, at its private address: a websocket or a request goes on there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from .send_queue import MAX_BYTES

ANSWER_S: Final = 5.0  # for another front to answer
_HEAD: Final = b"\r\n\r\n"
_PIECE: Final = 1 << 16
_ABORT: Final = "xlsr-live.abort"


class PeerAnswer(NamedTuple):
    """The answer to a request."""

    status: int
    body: AsyncGenerator[bytes]


class AbortableWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's websocket, which the app can cut: its client then sees a broken connection and resumes.

    It also cuts a client that sends pings and reads no pongs: uvicorn writes these without looking at the buffer.
    """

    async def run_asgi(self) -> None:
        cast(dict[str, Any], self.scope)[_ABORT] = self.transport.abort
        await super().run_asgi()

    def handle_ping(self, *args: Any) -> None:
        if self.transport.is_closing():
            return
        super().handle_ping(*args)
        if self.transport.get_write_buffer_size() > MAX_BYTES:
            self.transport.abort()


class Relay:
    """A client's websocket that goes on at another front. A stream that other parts may count and end."""

    def __init__(self, name: str, websocket: WebSocket, most_bytes: int) -> None:
        self.name = name
        self._websocket = websocket
        self._most_bytes = most_bytes
        self._peer: ClientConnection | None = None

    async def run(self, address: str, first: str) -> bool:
        """Send `first`, then pass on everything until one side ends, which ends the other side in the same way. False
        if that front does not answer."""
        try:
            peer = self._peer = await unix_connect(
                address,
                "ws://front/resume",
                open_timeout=ANSWER_S,
                ping_interval=None,
                compression=None,
                max_size=self._most_bytes,
            )
        except (OSError, TimeoutError, InvalidHandshake, EOFError):
            return False
        with suppress(ConnectionClosed):
            await peer.send(first)
        incoming = asyncio.create_task(self._pass_incoming(peer))
        try:
            await self._pass_outgoing(peer)
        finally:
            incoming.cancel()
            peer.transport.abort()
        return True

    async def _pass_incoming(self, peer: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while (message := await self._websocket.receive())["type"] != "websocket.disconnect":
                text: str | None = message.get("text")
                await peer.send(message["bytes"] if text is None else text)
                await asyncio.sleep(0)  # both return at once for a flood, and other clients would wait
            if "reason" in message:  # a close frame: the client leaves on purpose
                code = message.get("code")
                await peer.close(1000 if code in (None, 1005) else code)  # 1005: its close frame has no code
        peer.transport.abort()

    async def _pass_outgoing(self, peer: ClientConnection) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # RuntimeError: already closed
            with suppress(ConnectionClosed):
                while True:
                    data = await peer.recv()
                    await (
                        self._websocket.send_text(data) if isinstance(data, str) else self._websocket.send_bytes(data)
                    )
            if peer.protocol.close_rcvd is not None:
                await self._websocket.close(peer.protocol.close_rcvd.code, peer.protocol.close_rcvd.reason)
            else:
                abort: Callable[[], None] = self._websocket.scope.get(_ABORT, lambda: None)
                abort()

    # ── as an open stream of this front: it ends when its session does, which the other front decides ──

    def leave(self, within_s: float) -> bool:
        return False

    def shut_down(self) -> None:
        """The other front finishes the session."""

    def drop(self) -> None:
        if self._peer is not None:
            self._peer.transport.abort()


async def get(address: str, path: str, headers: dict[str, str] | None = None) -> PeerAnswer:
    """Request a path of another front. Raises `OSError` or `EOFError` if it does not answer."""
    async with asyncio.timeout(ANSWER_S):  # a TimeoutError is an OSError
        reader, writer = await asyncio.open_unix_connection(address)
        lines = [
            f"GET {path} HTTP/1.0",
            "host: front",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        try:
            head = await reader.readuntil(_HEAD)  # an IncompleteReadError is an EOFError
        except BaseException:
            writer.close()
            raise

    async def body() -> AsyncGenerator[bytes]:
        try:
            while piece := await reader.read(_PIECE):
                yield piece
        finally:
            writer.close()

    return PeerAnswer(int(head.split(b" ", 2)[1]), body())
