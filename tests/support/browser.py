"""A real browser for tests, Debian's Chromium with a recording as its microphone; and a way to a server that breaks."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
INSECURE = "captions.local"  # a name that is not this machine's own, so that pages from it are not secure


@contextmanager
def chromium(microphone: Path) -> Generator[Any]:
    """A Playwright browser; skips where there is none. `microphone` is a 16-bit WAV file that is heard once."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("needs Chromium (Debian's package chromium)")
    arguments = [
        "--no-sandbox",
        "--disable-dev-shm-usage",  # small in containers
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        f"--host-resolver-rules=MAP {INSECURE} 127.0.0.1",
    ]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


class Way:
    """A TCP way to a server, as routers are: `cut` breaks what goes over it, without a word; `mend` lets others in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, to: int) -> None:
        self.port = 0
        self._loop = loop
        self._to = to
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = True

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._cut)

    def mend(self) -> None:
        self._open = True

    def _cut(self) -> None:
        self._open = False
        for writer in self._writers:
            writer.transport.abort()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        reader_on, writer_on = await asyncio.open_connection("127.0.0.1", self._to)
        ends = {writer, writer_on}
        self._writers |= ends
        await asyncio.gather(self._carry(reader, writer_on), self._carry(reader_on, writer))
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
def way(to: int) -> Iterator[Way]:
    """A way to the port `to` of this machine, in a thread of its own."""
    loop = asyncio.new_event_loop()
    found = Way(loop, to)

    async def listen() -> asyncio.Server:
        server = await asyncio.start_server(found.connected, "127.0.0.1", 0)
        found.port = server.sockets[0].getsockname()[1]
        return server

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    try:
        yield found
    finally:

        async def stop() -> None:
            server.close()
            found._cut()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait([task], timeout=5)

        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
