"""uvicorn, as this server wants it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .app import UPLOADS, create_app
from .dialects.wyoming.listener import listen as listen_wyoming
from .models.models import Models
from .net.connections import limited
from .net.handshakes import behind_tls
from .operations.memory import give_back
from .operations.reload import Load, Reloader, Reread
from .operations.systemd import hangup_is_a_request
from .sessions.admission import Admission
from .sessions.registry import SessionRegistry
from .settings import ServerSettings

CLOSING_S: Final = 3.0  # for the clients' half of the closing handshake


class Server(uvicorn.Server):
    """Three habits of uvicorn's changed: open streams end in peace, any second signal is final, and a signal that was
    obeyed is not raised again afterwards (the exit status is 0). And while it runs a watchdog looks after the engine,
    and SIGHUP changes the model.

    `wyoming` is a listening socket for Wyoming's clients. With `stop_when_dead` it ends when the engine does, else it
    goes on and says so.
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
    ) -> None:
        self.sessions = SessionRegistry(limit)
        self._models = models
        self._admission = Admission(models, settings, self.sessions)
        self._reloader = Reloader(self._admission, load, reread)
        self._wyoming_socket = wyoming
        self._wyoming: asyncio.Server | None = None
        self._grace_s = settings.grace_s
        self._on_ready = on_ready
        self._stop_when_dead = stop_when_dead
        self._upkeep: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        logging.getLogger("uvicorn.error").addFilter(_not_a_refusal)
        http = limited(settings, UPLOADS)
        config = uvicorn.Config(
            create_app(self._admission, self._reloader),
            loop="asyncio",
            h11_max_incomplete_event_size=16 << 10,  # of a head
            http=http if tls is None else behind_tls(http, tls),
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,  # its INFO lines hold addresses and query strings
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            ws_max_size=settings.hard_limit_bytes,
            ws_per_message_deflate=False,  # audio does not deflate, and bombs do
            ws_ping_interval=20,
            # No deadline for the pong: it queues behind audio that a full backlog keeps from being read, and a client
            # that sends faster than real time must not die of it. Lost clients are found by the idle timeout.
            ws_ping_timeout=None,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self._wyoming_socket is not None:
            self._wyoming = await listen_wyoming(self._wyoming_socket, self._admission)
        self._upkeep = [self._loop.create_task(each) for each in (self._models.watch(), give_back())]
        if hangup_is_a_request():
            self._loop.add_signal_handler(signal.SIGHUP, self._reloader.ask)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._stop_when_dead and not self._models.current.engine.alive)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in (*self.servers, *filter(None, [self._wyoming])):
            server.close()
        await self.sessions.drain(self._grace_s)
        for task in self._upkeep:
            task.cancel()
        if not self.force_exit:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_S):
                    await self._closed()
        await super().shutdown(sockets)

    async def _closed(self) -> None:
        """Wait for the clients' close frames: to cut off one that is still sending would cost it what it has not yet
        read, the last final first of all.
        """
        connections = self.server_state.connections
        while any(isinstance(one, WebSocketsSansIOProtocol) for one in connections):  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.02)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and self._loop is not None:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self.sessions.hurry)
        self.should_exit = True


def _not_a_refusal(record: logging.LogRecord) -> bool:
    """uvicorn takes every websocket that is refused with a status of the app's own for a fault of the app."""
    return record.msg != "ASGI callable returned without completing handshake."
