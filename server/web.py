"""uvicorn with this server's configuration, start and shutdown."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from types import FrameType
from typing import Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .app import UPLOADS, create_app
from .dialects.wyoming.listener import listen as listen_wyoming
from .models.candidate import Load
from .models.models import Models
from .net.board import Posted
from .net.connections import uvicorn_options
from .net.handshakes import over_tls
from .net.loop import MeasuredLoop, new_loop, warn_when_busy
from .operations.memory import trim_memory
from .operations.reload import Reloader, Reread
from .operations.systemd import hangup_means_reload
from .private import PrivateServer
from .sessions.admission import Admission
from .sessions.fronts import Fronts
from .sessions.registry import SessionRegistry
from .settings import ServerSettings

CLOSING_S: Final = 3.0  # time for the clients' close frames


class Server(uvicorn.Server):
    """uvicorn with three changes: open streams end gracefully, any second signal stops at once, and a handled signal is
    not raised again (the exit status is 0). It also runs the watchdogs, and reloads on SIGHUP.

    `wyoming`: a listening socket for Wyoming clients. `stop_when_dead`: stop when the engine has failed permanently.
    `fronts`: this is one of several fronts; their supervisor gets the signals, and `handle_exit` is called for them.
    """

    def __init__(
        self,
        models: Models,
        settings: ServerSettings,
        on_ready: Callable[[], None],
        *,
        load: Load,
        reread: Reread,
        limit: int,
        tls: ssl.SSLContext | None,
        wyoming: socket.socket | None,
        stop_when_dead: bool = False,
        fronts: Fronts | None = None,
    ) -> None:
        self.sessions = SessionRegistry(limit)
        self._models = models
        self._admission = Admission(models, settings, self.sessions, fronts)
        self._reloader = Reloader(self._admission, load, reread)
        self._wyoming_socket = wyoming
        self._wyoming: asyncio.Server | None = None
        self._grace_s, self._move_s = settings.grace_s, settings.move_s
        self._terminated = False  # by SIGTERM: perhaps another server takes over
        self._on_ready = on_ready
        self._stop_when_dead = stop_when_dead
        self._fronts = fronts
        self._private = None if fronts is None else PrivateServer(self._admission)
        self._background: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)
        connections = None if fronts is None else partial(fronts.board.total, Posted.CONNECTIONS)
        super().__init__(_configuration(create_app(self._admission, self._reloader), settings, tls, connections))

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(self.serve(sockets=sockets))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self._wyoming_socket is not None:
            self._wyoming = await listen_wyoming(self._wyoming_socket, self._admission)
        background = [self._models.watch(), trim_memory()]
        if self._fronts is not None and self._private is not None:
            await self._private.begin(self._fronts.address(self._fronts.number))
            background.append(self._admission.post_state())
        if isinstance(self._loop, MeasuredLoop):
            background.append(warn_when_busy(self._loop))
        self._background = [self._loop.create_task(each) for each in background]
        if self._fronts is None and hangup_means_reload():
            self._loop.add_signal_handler(signal.SIGHUP, self._reloader.request)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._stop_when_dead and not self._models.current.engine.alive)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in (*self.servers, *filter(None, [self._wyoming])):
            server.close()
        move_s = min(self._move_s, self._grace_s / 2) if self._terminated else 0.0
        await self.sessions.drain(self._grace_s, move_s)
        for task in self._background:
            task.cancel()
        if self._private is not None:
            self._private.end()
        if not self.force_exit:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_S):
                    await self._websockets_closed()
        await super().shutdown(sockets)

    async def _websockets_closed(self) -> None:
        """Wait for the clients' close frames: closing while a client still sends would lose its unread events, such as
        the last final.
        """
        connections = self.server_state.connections
        while any(isinstance(one, WebSocketsSansIOProtocol) for one in connections):  # noqa: ASYNC110  no event exists
            await asyncio.sleep(0.02)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        with nullcontext() if self._fronts else super().capture_signals():
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and self._loop is not None:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self.sessions.hurry)
        self.should_exit = True
        self._terminated = sig == signal.SIGTERM


def _configuration(
    app: Starlette,
    settings: ServerSettings,
    tls: ssl.SSLContext | None,
    connections: Callable[[], int] | None,
) -> uvicorn.Config:
    options = uvicorn_options(settings, UPLOADS, connections)
    if tls is not None:
        options["http"] = over_tls(options["http"], tls)
    return uvicorn.Config(
        app, lifespan="off", log_config=None, log_level=logging.WARNING, access_log=False, **options
    )  # INFO lines contain addresses and query strings


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """Whether to log the line. uvicorn logs a websocket that the app refuses as an error of the app."""
    return record.msg != "ASGI callable returned without completing handshake."
