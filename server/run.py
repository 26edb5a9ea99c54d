"""Running the app: under `xlsr-live serve`, or on a free port beside other code."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from ..streaming.errors import EngineError
from ..streaming.recognizer import Recognizer
from .capacity import capacity
from .logs import set_up
from .sessions import Sessions
from .settings import ServerSettings
from .sockets import address, listen, tls_context
from .tokens import load_tokens
from .web import Server

logger = logging.getLogger("xlsr_live.server")
UNMEASURED: Final = 32  # sessions, where nobody waits for a measurement


@dataclass(frozen=True)
class RunningServer:
    """A server that runs in a thread of this process."""

    port: int
    url: str  # ws://127.0.0.1:PORT/v1/stream
    sessions: Sessions
    loop: asyncio.AbstractEventLoop  # the server's


def serve(settings: ServerSettings, recognizer_factory: Callable[[], Recognizer]) -> None:
    """Serve until SIGINT or SIGTERM, then finish open utterances; a second signal stops at once.

    The port is taken before the model is loaded, so that the mistake that costs least to find is found first. Raises
    `ConfigError` when the address cannot be had or a file not be read, what `recognizer_factory` raises, and
    `EngineError` when the model has failed for good.
    """
    set_up(settings)
    with listen(settings) as listener:
        tls = tls_context(settings)
        if not load_tokens(settings).required and not settings.loopback:
            logger.warning("listening on %s without a token: anyone who can reach it can use it", settings.host)
        recognizer = recognizer_factory()
        try:
            info, url = recognizer.info, address(settings, listener)
            limit = capacity(recognizer) if settings.max_sessions == "auto" else settings.max_sessions

            def ready() -> None:
                print(f"xlsr-live is ready: {url} (model {info.name} on {info.device}, {info.dtype})", flush=True)

            server = Server(recognizer, settings, ready, limit=limit, tls=tls, stop_when_dead=True)
            server.run(sockets=[listener])
            if not recognizer.engine.alive:
                raise EngineError("the model has failed for good; the log says why")
        finally:
            recognizer.close(timeout=settings.stall_s)


@contextmanager
def running_server(recognizer: Recognizer, settings: ServerSettings | None = None) -> Generator[RunningServer]:
    """Run the app on a free port in a background thread for the length of the block. The recognizer stays open.

    `max_sessions` "auto" means `UNMEASURED` here.
    """
    settings = replace(settings or ServerSettings(), port=0)
    limit = UNMEASURED if settings.max_sessions == "auto" else settings.max_sessions
    started: Future[asyncio.AbstractEventLoop] = Future()
    with listen(settings) as listener:

        def ready() -> None:
            started.set_result(asyncio.get_running_loop())

        server = Server(recognizer, settings, ready, limit=limit, tls=tls_context(settings))

        def run() -> None:
            try:
                server.run(sockets=[listener])
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        thread = threading.Thread(target=run, name="xlsr-live-server")
        thread.start()
        try:
            loop = started.result()
            yield RunningServer(listener.getsockname()[1], address(settings, listener), server.sessions, loop)
        finally:
            server.should_exit = True
            thread.join()
