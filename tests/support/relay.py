"""A TCP relay to a server that breaks connections on request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Relay:
    """Relays connections like a router. `cut` breaks all without a closing handshake; `mend` accepts new ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop, to: int) -> None:
        self.port = 0
        self._loop = loop
        self._to = to
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = True

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._cut)

    def route(self, to: int) -> None:
        """Carry new connections to this port, as a load balancer would."""
        self._to = to

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._mend)

    def _mend(self) -> None:
        self._open = True

    def _cut(self) -> None:
        self._open = False
        for writer in self._writers:
            writer.transport.abort()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        self._writers.add(writer)  # first: a cut during the next line ends it, too
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to)
        ends = {writer, server_writer}
        self._writers |= ends
        await asyncio.gather(self._carry(reader, server_writer), self._carry(server_reader, writer))
        self._writers -= ends

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


@contextmanager
def relay(to: int) -> Iterator[Relay]:
    """A relay to the port `to` of this machine, in its own thread."""
    loop = asyncio.new_event_loop()
    instance = Relay(loop, to)

    async def listen() -> asyncio.Server:
        server = await asyncio.start_server(instance.connected, "127.0.0.1", 0)
        instance.port = server.sockets[0].getsockname()[1]
        return server

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(60)
    try:
        yield instance
    finally:

        async def stop() -> None:
            server.close()
            instance._cut()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait([task], timeout=5)

        asyncio.run_coroutine_threadsafe(stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
