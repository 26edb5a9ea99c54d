"""A client that sends pings and reads no pongs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from xlsr_live.server.net.connections import websocket_options
from xlsr_live.server.net.send_queue import MAX_BYTES
from xlsr_live.server.settings import ServerSettings

HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PINGS = Frame(Opcode.PING, bytes(125)).serialize(mask=True) * 2_000  # arrive at once


class Unread(asyncio.Transport):
    """A transport whose other side reads nothing, or all (`reads`)."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.written = 0
        self.aborted = False
        self._reads = reads

    def write(self, data: Any) -> None:
        self.written += len(data)

    def get_write_buffer_size(self) -> int:
        return 0 if self._reads else self.written

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def accept(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


@pytest.mark.parametrize("reads", [False, True])
def test_pongs_that_are_not_read_are_limited(reads: bool):
    async def scene() -> Unread:
        config = Config(accept, lifespan="off", log_config=None, **websocket_options(ServerSettings()))
        config.load()
        protocol: Any = config.ws_protocol_class
        websocket = protocol(config, ServerState(), {}, asyncio.get_running_loop())
        websocket.connection_made(transport := Unread(reads))
        websocket.data_received(HANDSHAKE)
        while not transport.written:  # the answer to the handshake
            await asyncio.sleep(0)
        for _ in range(20):
            websocket.data_received(PINGS)
        websocket.stop_keepalive()
        return transport

    transport = asyncio.run(scene())
    assert transport.aborted == (not reads)
    assert (transport.written > MAX_BYTES + len(PINGS)) == reads
