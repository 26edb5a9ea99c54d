"""Running the app: under `xlsr-live serve`, or on a free port beside other code."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..streaming.errors import ConfigError
from ..streaming.recognizer import Recognizer
from .app import create_app
from .sessions import Sessions
from .settings import ServerSettings
from .wyoming import listen as listen_wyoming

logger = logging.getLogger("xlsr_live.server")
CLOSING_S: Final = 3.0  # for the clients' half of the closing handshake


@dataclass(frozen=True)
class RunningServer:
    """A server that runs in a thread of this process."""

    port: int
    url: str  # ws://127.0.0.1:PORT/v1/stream
    sessions: Sessions
    loop: asyncio.AbstractEventLoop  # the server's
    vosk_port: int | None = None
    wyoming_port: int | None = None


def serve(settings: ServerSettings, recognizer_factory: Callable[[], Recognizer]) -> None:
    """Serve until SIGINT or SIGTERM, then finish open utterances; a second signal stops at once.

    The port is taken before the model is loaded, so that the mistake that costs least to find is found first.
    Raises `ConfigError` when the address cannot be had, and what `recognizer_factory` raises.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with _listen(settings) as (settings, listeners):
        if not settings.loopback and settings.token is None:
            logger.warning("listening on %s without a token: anyone who can reach it can use it", settings.host)
        recognizer = recognizer_factory()
        try:
            info, url = recognizer.info, _url(settings)

            def ready() -> None:
                print(f"xlsr-live is ready: {url} (model {info.name} on {info.device}, {info.dtype})", flush=True)

            _Server(recognizer, settings, ready, listeners.pop("wyoming_port", None)).run([*listeners.values()])
        finally:
            recognizer.close()


@contextmanager
def running_server(recognizer: Recognizer, settings: ServerSettings | None = None) -> Generator[RunningServer]:
    """Run the app on a free port in a background thread for the length of the block. The recognizer stays open."""
    started: Future[asyncio.AbstractEventLoop] = Future()
    with _listen(replace(settings or ServerSettings(), port=0)) as (settings, listeners):
        wyoming = listeners.pop("wyoming_port", None)
        server = _Server(recognizer, settings, lambda: started.set_result(asyncio.get_running_loop()), wyoming)

        def run() -> None:
            try:
                server.run([*listeners.values()])
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        thread = threading.Thread(target=run, name="xlsr-live-server")
        thread.start()
        try:
            loop = started.result()
            ports = settings.vosk_port, settings.wyoming_port
            yield RunningServer(settings.port, _url(settings), server.sessions, loop, *ports)
        finally:
            server.should_exit = True
            thread.join()


class _Server(uvicorn.Server):
    """uvicorn, with three habits changed: open streams end in peace, any second signal is final, and a signal that
    was obeyed is not raised again afterwards (the exit status is 0).
    """

    def __init__(
        self,
        recognizer: Recognizer,
        settings: ServerSettings,
        on_ready: Callable[[], None],
        wyoming: socket.socket | None,
    ) -> None:
        self.sessions = Sessions(settings.max_sessions)
        self._listen = partial(listen_wyoming, wyoming, recognizer, settings, self.sessions) if wyoming else None
        self._wyoming: asyncio.Server | None = None
        self._grace_s = settings.grace_s
        self._on_ready = on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        logging.getLogger("uvicorn.error").addFilter(_not_a_refusal)
        config = uvicorn.Config(
            create_app(recognizer, settings, self.sessions),
            loop="asyncio",
            http="h11",
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,  # its INFO lines hold addresses and query strings
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws_max_size=settings.hard_limit_bytes,
            ws_per_message_deflate=False,  # audio does not deflate
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
        if self._listen is not None:
            self._wyoming = await self._listen()
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in (*self.servers, *filter(None, [self._wyoming])):
            server.close()
        await self.sessions.drain(self._grace_s)
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


@contextmanager
def _listen(settings: ServerSettings) -> Generator[tuple[ServerSettings, dict[str, socket.socket]]]:
    """Take the ports; also return the settings with those that were found free. Raises `ConfigError`."""
    wanted = {name: getattr(settings, name) for name in ("port", "vosk_port", "wyoming_port")}
    with ExitStack() as stack:
        taken = {
            name: stack.enter_context(_listener(settings, port)) for name, port in wanted.items() if port is not None
        }
        ports: dict[str, int] = {name: listener.getsockname()[1] for name, listener in taken.items()}
        yield replace(settings, **ports), taken


def _listener(settings: ServerSettings, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        raise ConfigError(f"cannot listen on {settings.host} port {port}: {error.strerror}") from None
    if sys.platform == "linux":
        # Inherited by the connections. Data that a client never reads would otherwise hold its socket for ever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.idle_timeout_s * 1000))
    return listener


def _url(settings: ServerSettings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"ws://{host}:{settings.port}/v1/stream"
