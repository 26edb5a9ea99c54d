"""A front process: sessions, gates and decoding. The engine process runs the model."""

from __future__ import annotations

import logging
import signal
import socket
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from msgspec.structs import replace

from ..streaming.errors import ConfigError
from ..streaming.recognizer import Recognizer
from .logs import configure_logging
from .models.models import Models
from .models.options import model_options
from .net.shared_listener import SharedListener
from .net.sockets import tls_context
from .operations.memory import freeze_loaded
from .processes.engine_process import send_error
from .processes.link import start_thread
from .processes.remote_engine import RemoteEngine
from .processes.remote_model import front_recognizer
from .sessions.fronts import Fronts
from .settings import ServerSettings
from .web import Server

logger = logging.getLogger("xlsr_live.server")
READY = "ready"


def run_front(
    number: int,
    settings: ServerSettings,
    sockets: dict[str, socket.socket],
    folder: Path,
    control: Connection,
) -> None:
    """The main function of front `number`. Serves on the listening `sockets`, which all fronts share.

    Sends the supervisor `READY`, or the error for which it cannot start. The supervisor sends the signals that it gets;
    when it closes `control`, the front drains as after SIGTERM.
    """
    configure_logging(settings)
    address = str(folder / "engine")
    engine = RemoteEngine(address)
    try:
        recognizer = front_recognizer(model_options(settings), engine, address)
        freeze_loaded()
        fronts = Fronts.open(folder, settings.fronts, number)
        listeners: dict[str, socket.socket] = {
            name: SharedListener(listener, fronts.board) for name, listener in sockets.items()
        }
        server = Server(
            Models(recognizer, settings.stall_s),
            settings,
            partial(control.send, READY),
            load=_load_nothing,
            reread=partial(replace, settings),
            limit=engine.description.result().limit,
            tls=tls_context(settings),
            wyoming=listeners.pop("wyoming_port", None),
            stop_when_dead=True,
            fronts=fronts,
        )
    except Exception as error:
        send_error(control, error)
        engine.close(timeout=0)
        return
    start_thread(partial(_obey, control, server), "xlsr-control")
    try:
        server.run(sockets=[*listeners.values()])
    finally:
        recognizer.close(timeout=1)


def _obey(control: Connection, server: Server) -> None:
    while True:
        try:
            server.handle_exit(control.recv(), None)
        except (EOFError, OSError):  # the supervisor is gone
            if not server.should_exit:
                server.handle_exit(signal.SIGTERM, None)
            return


def _load_nothing(settings: ServerSettings) -> Recognizer:
    raise ConfigError("a server with several fronts cannot change its model or its tokens while it runs; restart it")
