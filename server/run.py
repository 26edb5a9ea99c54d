"""Running the app: under `xlsr-live serve`, or on a free port beside other code."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec.structs import replace

from ..streaming.errors import ConfigError, EngineError
from ..streaming.recognizer import Recognizer
from .access.tokens import load_tokens
from .logs import set_up
from .models.capacity import capacity
from .models.models import Models
from .net.sockets import address, listen, listening, page_address, tls_context
from .operations.memory import settle
from .operations.reload import Load, Reread
from .operations.systemd import held_hangups, notify_systemd
from .sessions.registry import SessionRegistry
from .settings import ServerSettings
from .web import Server

logger = logging.getLogger("xlsr_live.server")
UNMEASURED: Final = 32  # sessions, where nobody waits for a measurement


@dataclass(frozen=True)
class RunningServer:
    """A server that runs in a thread of this process."""

    port: int
    url: str  # ws://127.0.0.1:PORT/v1/stream
    sessions: SessionRegistry
    loop: asyncio.AbstractEventLoop  # the server's
    vosk_port: int | None = None
    wyoming_port: int | None = None


def serve(settings: ServerSettings, load: Load, reread: Reread | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then finish open utterances; a second signal stops at once. `load` makes the
    recognizer that settings name; `reread` gives those of now when another is asked for (SIGHUP), else nothing changes
    in them.

    The ports are taken before the model is loaded, so that the mistake that costs least to find is found first. Raises
    `ConfigError` when the address cannot be had or a file not be read, what `load` raises, and `EngineError` when the
    model has failed for good.
    """
    set_up(settings)
    reread = reread or partial(replace, settings)
    with held_hangups() as hung_up, listening(settings) as (settings, listeners):
        tls = tls_context(settings)
        if not settings.loopback:  # critical: said at every level of the log
            if not load_tokens(settings).required:
                logger.critical("listening on %s without a token: anyone who can reach it can use it", settings.host)
            elif settings.wyoming_port is not None:
                logger.critical("Wyoming's port asks for no token: anyone who can reach %s can use it", settings.host)

        def load_and_settle(settings: ServerSettings) -> Recognizer:
            recognizer = load(settings)
            settle()
            return recognizer

        recognizer = load_and_settle(settings)
        models = Models(recognizer, settings.stall_s)
        try:
            info, url = recognizer.info, address(settings)
            limit = capacity(recognizer) if settings.max_sessions == "auto" else settings.max_sessions

            def ready() -> None:
                runs = f"{url} (model {info.name} on {info.device}, {info.dtype})"
                print(f"xlsr-live is ready: {runs}; in a browser: {page_address(settings)}", flush=True)
                notify_systemd("READY=1")
                if hung_up:  # while the model was loaded: the settings may be others now
                    signal.raise_signal(signal.SIGHUP)

            for listener in listeners.values():
                listen(settings, listener)
            wyoming = listeners.pop("wyoming_port", None)
            server = Server(
                models,
                settings,
                ready,
                load=load_and_settle,
                reread=reread,
                limit=limit,
                tls=tls,
                wyoming=wyoming,
                stop_when_dead=True,
            )
            server.run(sockets=[*listeners.values()])
            if not models.current.engine.alive:
                raise EngineError("the model has failed for good; the log says why")
        finally:
            models.close()


@contextmanager
def running_server(
    recognizer: Recognizer,
    settings: ServerSettings | None = None,
    *,
    load: Load | None = None,
    reread: Reread | None = None,
) -> Generator[RunningServer]:
    """Run the app on a free port in a background thread for the length of the block. The recognizer stays open.

    `max_sessions` "auto" means `UNMEASURED` here. `load` and `reread` are those of `serve`.
    """
    settings = replace(settings or ServerSettings(), port=0)
    models = Models(recognizer, settings.stall_s, borrowed=True)
    limit = UNMEASURED if settings.max_sessions == "auto" else settings.max_sessions
    started: Future[asyncio.AbstractEventLoop] = Future()
    with listening(settings) as (settings, listeners):

        def ready() -> None:
            started.set_result(asyncio.get_running_loop())

        wyoming = listeners.pop("wyoming_port", None)
        server = Server(
            models,
            settings,
            ready,
            load=load or _load_nothing,
            reread=reread or partial(replace, settings),
            limit=limit,
            tls=tls_context(settings),
            wyoming=wyoming,
        )

        def run() -> None:
            try:
                server.run(sockets=[*listeners.values()])
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        thread = threading.Thread(target=run, name="xlsr-live-server")
        thread.start()
        try:
            loop = started.result()
            ports = settings.vosk_port, settings.wyoming_port
            yield RunningServer(settings.port, address(settings), server.sessions, loop, *ports)
        finally:
            server.should_exit = True
            thread.join()
            models.close()


def _load_nothing(settings: ServerSettings) -> Recognizer:
    raise ConfigError("this server was started with a model of its own and cannot load another")
