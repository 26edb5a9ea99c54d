"""Runs the app for `xlsr-live serve`, or on a free port in a background thread."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec.structs import replace

from ..streaming.errors import ConfigError, EngineError
from ..streaming.model.info import ModelInfo
from ..streaming.recognizer import Recognizer
from .access.tokens import load_tokens
from .logs import configure_logging
from .models.candidate import Load
from .models.capacity import capacity, warn_if_crowded
from .models.models import Models
from .net.sockets import bound_sockets, listen, page_url, tls_context, websocket_url
from .operations.memory import freeze_loaded
from .operations.reload import Reread
from .operations.systemd import deferred_hangups, notify_systemd
from .sessions.registry import SessionRegistry
from .settings import ServerSettings
from .supervisor import serve_fronts
from .web import Server

logger = logging.getLogger("xlsr_live.server")
UNMEASURED: Final = 32  # sessions, where a measurement would take too long


@dataclass(frozen=True)
class RunningServer:
    """A server in a thread of this process."""

    port: int
    url: str  # ws://127.0.0.1:PORT/v1/stream
    sessions: SessionRegistry
    loop: asyncio.AbstractEventLoop  # the server's
    vosk_port: int | None = None
    wyoming_port: int | None = None


def serve(settings: ServerSettings, load: Load, reread: Reread | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then finish open utterances; a second signal stops at once.

    `load` makes the recognizer of the settings; on a reload (SIGHUP), `reread` reads the settings again. The server
    binds its ports before it loads the model, so a taken port shows at once. Raises `ConfigError` for a taken port or
    an unreadable file, `EngineError` when the model has failed permanently, and the errors of `load`.
    """
    if settings.fronts > 1:
        configure_logging(settings)
        warn_if_open(settings)
        return serve_fronts(settings, load, _announce)
    configure_logging(settings)
    with deferred_hangups() as hangups, bound_sockets(settings) as (settings, sockets):
        tls = tls_context(settings)
        warn_if_open(settings)
        recognizer = _load_and_freeze(load, settings)
        models = Models(recognizer, settings.stall_s)
        try:
            limit = capacity(recognizer) if settings.max_sessions == "auto" else settings.max_sessions
            warn_if_crowded(limit, recognizer)

            def ready() -> None:
                _announce(settings, recognizer.info)
                if hangups:  # received while the model loaded: the settings may have changed
                    signal.raise_signal(signal.SIGHUP)

            for listener in sockets.values():
                listen(settings, listener)
            server = Server(
                models,
                settings,
                ready,
                load=partial(_load_and_freeze, load),
                reread=reread or partial(replace, settings),
                limit=limit,
                tls=tls,
                wyoming=sockets.pop("wyoming_port", None),
                stop_when_dead=True,
            )
            server.run(sockets=[*sockets.values()])
            if not models.current.engine.alive:
                raise EngineError("the model has failed permanently; see the log")
        finally:
            models.close()


def warn_if_open(settings: ServerSettings) -> None:
    """Log it if strangers can use the server."""
    if settings.loopback:
        return
    if not load_tokens(settings).required:  # critical: logged at every level
        logger.critical("listening on %s without a token: anyone who can reach it can use it", settings.host)
    elif settings.wyoming_port is not None:
        logger.critical("the Wyoming port has no tokens: anyone who can reach %s can use it", settings.host)


def _load_and_freeze(load: Load, settings: ServerSettings) -> Recognizer:
    recognizer = load(settings)
    freeze_loaded()
    return recognizer


def _announce(settings: ServerSettings, info: ModelInfo) -> None:
    model = f"model {info.name} on {info.device}, {info.dtype}"
    print(f"xlsr-live is ready: {websocket_url(settings)} ({model}); in a browser: {page_url(settings)}", flush=True)
    notify_systemd("READY=1")


@contextmanager
def running_server(
    recognizer: Recognizer,
    settings: ServerSettings | None = None,
    *,
    load: Load | None = None,
    reread: Reread | None = None,
) -> Generator[RunningServer]:
    """Run the app on a free port in a background thread for the length of the block. The recognizer stays open.

    `max_sessions` "auto" means `UNMEASURED` here. `load` and `reread`: see `serve`.
    """
    settings = replace(settings or ServerSettings(), port=0)
    models = Models(recognizer, settings.stall_s, borrowed=True)
    started: Future[asyncio.AbstractEventLoop] = Future()
    with bound_sockets(settings) as (settings, sockets):
        server = Server(
            models,
            settings,
            lambda: started.set_result(asyncio.get_running_loop()),
            load=load or _load_nothing,
            reread=reread or partial(replace, settings),
            limit=UNMEASURED if settings.max_sessions == "auto" else settings.max_sessions,
            tls=tls_context(settings),
            wyoming=sockets.pop("wyoming_port", None),
        )
        thread = threading.Thread(
            target=_run_in_thread, args=(server, [*sockets.values()], started), name="xlsr-live-server"
        )
        thread.start()
        try:
            loop = started.result()
            ports = settings.vosk_port, settings.wyoming_port
            yield RunningServer(settings.port, websocket_url(settings), server.sessions, loop, *ports)
        finally:
            server.should_exit = True
            thread.join()
            models.close()


def _run_in_thread(server: Server, sockets: list[socket.socket], started: Future[asyncio.AbstractEventLoop]) -> None:
    try:
        server.run(sockets=sockets)
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)


def _load_nothing(settings: ServerSettings) -> Recognizer:
    raise ConfigError("this server was started with a loaded model and cannot load another one")
