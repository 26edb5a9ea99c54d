"""Several fronts and one engine: the parent process, which starts them again when they end and has the signals.

All fronts accept from one listening socket, which this process holds: connections that arrive while a front starts
again wait for it, and no other program can take the port.

                   engine ready        fronts ready             SIGTERM, SIGINT
    engine starts ─────────────▶ fronts start ─────▶ serving ─────────────────▶ fronts drain ─▶ engine ends
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from ..streaming.errors import EngineError
from ..streaming.model.info import ModelInfo
from .access.ledger import Ledger
from .front import READY, run_front
from .models.candidate import Load
from .net.board import Board
from .net.sockets import bound_sockets, listen
from .operations.memory import freeze_loaded
from .operations.systemd import hangup_means_reload
from .processes.children import Child
from .processes.engine_process import run_engine
from .processes.messages import ModelDescription
from .settings import ServerSettings

logger = logging.getLogger("xlsr_live.server")

MAX_FAILURES: Final = 5  # of a process in a row, before the server gives up
LOOK_S: Final = 0.5  # between two looks at deadlines
EXTRA_S: Final = 20.0  # longer than `grace_s`, before fronts that drain are killed
ENGINE_EXIT_S: Final = 10.0


def serve_fronts(settings: ServerSettings, load: Load, announce: Callable[[ServerSettings, ModelInfo], None]) -> None:
    """Serve with `settings.fronts` fronts until SIGINT or SIGTERM; a second signal stops at once.

    `announce` gets the settings with the ports, and the `ModelInfo`. Raises `ConfigError` for a taken port or an
    unreadable file, `EngineError` when the engine does not stay up, and the errors of `load`.
    """
    with bound_sockets(settings) as (settings, sockets), tempfile.TemporaryDirectory(prefix="xlsr-live-") as folder:
        Supervisor(settings, load, sockets, Path(folder), announce).run()


class Supervisor:
    """Call `run` once, in the main thread."""

    def __init__(
        self,
        settings: ServerSettings,
        load: Load,
        sockets: dict[str, socket.socket],
        folder: Path,
        announce: Callable[[ServerSettings, ModelInfo], None],
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._announce = announce
        address = folder / "engine"

        def for_engine() -> tuple[Any, ...]:
            address.unlink(missing_ok=True)  # of the one before
            known = self._description  # measured once: sessions would distort another measurement
            again = settings if known is None else replace(settings, max_sessions=known.limit)
            return again, load, freeze_loaded, str(address)

        self.engine = Child("the engine", run_engine, for_engine)
        self.fronts = [
            Child(f"front {number}", run_front, lambda number=number: (number, settings, sockets, folder))
            for number in range(settings.fronts)
        ]
        self._folder = folder
        self._ledger = Ledger(folder / "ledger", -1)
        self._board = Board(folder / "board", settings.fronts)
        self._description: ModelDescription | None = None  # of the first engine
        self._announced = False
        self._stopping = False
        self._deadline = 0.0  # while stopping
        self._signals: deque[int] = deque()

    def run(self) -> None:
        """Until a signal has stopped everything. Raises the error for which the server cannot start or go on."""
        with self._signal_pipe() as woken:
            self.engine.start()
            try:
                while not (self._stopping and not any(front.running for front in self.fronts)):
                    self._look(woken)
                self.engine.release()
                self.engine.process.join(ENGINE_EXIT_S)
            finally:
                for child in (*self.fronts, self.engine):
                    child.kill()
                    child.forget()
                self._ledger.close()

    @contextmanager
    def _signal_pipe(self) -> Generator[int]:
        """Signals go to `_signals`, and make the yielded pipe readable."""
        reading, writing = os.pipe()

        def received(number: int, frame: object) -> None:
            self._signals.append(number)
            os.write(writing, b".")

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, received) for number in numbers}
        try:
            yield reading
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reading)
            os.close(writing)

    def _look(self, woken: int) -> None:
        """Wait for news, and act on all of it."""
        children = [child for child in (self.engine, *self.fronts) if child.running]
        sources = [woken, *(child.process.sentinel for child in children)]
        sources += [child.control for child in children if child.control is not None]
        starts = [child.restart_at for child in (self.engine, *self.fronts) if child.restart_at is not None]
        now = time.monotonic()
        if woken in wait(sources, max(0.0, min([LOOK_S, *(at - now for at in starts)]))):
            os.read(woken, 1)
        while self._signals:
            self._on_signal(self._signals.popleft())
        for message in self.engine.messages():
            self._on_engine(message)
        for front in self.fronts:
            for message in front.messages():
                self._on_front(front, message)
        self._check(time.monotonic())

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP and hangup_means_reload():
            logger.error("a server with several fronts cannot change its model or its tokens; restart it")
            return
        if self._description is None:
            raise KeyboardInterrupt  # the model is loading: there is nothing to finish
        if not self._stopping:
            self._stopping = True
            self._deadline = time.monotonic() + self._settings.grace_s + EXTRA_S
            for listener in self._sockets.values():
                listener.close()
        for front in self.fronts:
            front.restart_at = None
            if front.ready:
                front.send(signal.SIGTERM if number == signal.SIGHUP else number)
            else:
                front.kill()

    def _on_engine(self, message: object) -> None:
        match message:
            case ModelDescription():
                self.engine.ready = True
                if self._description is None:
                    self._description = message
                    for listener in self._sockets.values():
                        listen(self._settings, listener)
                    for front in self.fronts:
                        front.start()
                elif message != self._description:
                    logger.error("the model has changed since the start; all fronts start again")
                    for front in self.fronts:
                        front.kill()
                    self._description = message
            case Exception():
                if self._description is None:
                    raise message
                logger.error("the engine cannot start: %s", message)
            case _:
                pass

    def _on_front(self, front: Child, message: object) -> None:
        match message:
            case Exception():
                if not self._announced:
                    raise message
                logger.error("%s cannot start: %s", front.name, message)
            case _ if message == READY:
                front.ready = True
                if self._description is not None and not self._announced and all(one.ready for one in self.fronts):
                    self._announced = True
                    self._announce(self._settings, self._description.info)
            case _:
                pass

    def _check(self, now: float) -> None:
        """Start processes that have ended, and kill those that hang."""
        engine = self.engine
        if engine.ready and engine.running and now - engine.sign_at > self._settings.stall_s:
            logger.error("the engine process gives no sign of life; killing it")
            engine.kill()
        for child in (engine, *self.fronts):
            if child.process is not None and not child.running and child.restart_at is None:
                self._on_end(child, now)
            if child.restart_at is not None and now >= child.restart_at:
                child.start()
        if self._stopping and now > self._deadline:
            for front in self.fronts:
                front.kill()

    def _on_end(self, child: Child, now: float) -> None:
        if self._stopping:
            return
        for message in child.messages():  # sent since the last look
            self._on_engine(message) if child is self.engine else self._on_front(child, message)
        child.ended(now)
        if child is not self.engine:
            number = self.fronts.index(child)
            self._ledger.forget(number)
            self._board.clear(number)
            (self._folder / f"front-{number}").unlink(missing_ok=True)
            if not self._announced and child.failures > MAX_FAILURES:
                raise EngineError(f"{child.name} does not start; see the log")
            return
        if self._description is None:
            raise EngineError("the engine process ended before its model was loaded; see the log")
        if child.failures > MAX_FAILURES:
            raise EngineError("the engine process does not stay up; see the log")
