"""A process that a supervisor starts, and starts again when it ends."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Final

SPAWN: Final = multiprocessing.get_context("spawn")
FIRST_DELAY_S: Final = 0.2  # before the first restart; each further one takes twice as long
MAX_DELAY_S: Final = 30.0
STABLE_S: Final = 30.0  # a process that lived so long starts again with the first delay

logger = logging.getLogger("xlsr_live.server")


class Child:
    """`arguments` makes the arguments of `run` at each start; the last one is always the end of a pipe."""

    def __init__(self, name: str, run: Callable[..., None], arguments: Callable[[], tuple[Any, ...]]) -> None:
        self.name = name
        self.ready = False  # it has said so
        self.failures = 0  # starts in a row after which it was not ready, or ended soon
        self.restart_at: float | None = None  # while it does not run
        self.sign_at = 0.0  # time of its last sign of life
        self._run, self._arguments = run, arguments
        self._started = 0.0
        self.process: Any = None
        self.control: Connection | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.exitcode is None

    def start(self) -> None:
        self.ready, self.restart_at = False, None
        ours, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(
            target=_run_ignoring_signals,
            args=(self._run, *self._arguments(), theirs),
            name=f"xlsr-live {self.name}",
            daemon=True,
        )
        with _delayed_signals():
            self.process.start()
        theirs.close()
        self.control = ours
        self._started = self.sign_at = time.monotonic()

    def messages(self) -> list[Any]:
        """What it has sent since the last call."""
        received: list[Any] = []
        with suppress(EOFError, OSError):
            while self.control is not None and self.control.poll():
                received.append(self.control.recv())
                self.sign_at = time.monotonic()
        return received

    def send(self, message: object) -> None:
        with suppress(OSError):
            if self.control is not None:
                self.control.send(message)

    def ended(self, now: float) -> None:
        """Plan its restart."""
        stable = self.ready and now - self._started > STABLE_S
        self.failures = 1 if stable else self.failures + 1
        delay = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self.failures - 1))
        self.restart_at = now + delay
        status = self.process.exitcode
        self.forget()
        logger.error("%s has ended with status %s; it starts again in %g s", self.name, status, delay)

    def kill(self) -> None:
        if self.running:
            self.process.kill()

    def release(self) -> None:
        """Let it end by itself."""
        if self.control is not None:
            self.control.close()
            self.control = None

    def forget(self) -> None:
        """Of an ended process."""
        self.release()
        self.ready = False
        if self.process is not None:
            self.process.join()


def _run_ignoring_signals(run: Callable[..., None], *arguments: Any) -> None:
    """What a new process runs. The signals of a terminal or a service manager reach all processes at once, but only the
    supervisor must act on them. They have been blocked since the start."""
    for number in _shared_signals():
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _shared_signals())
    run(*arguments)


@contextmanager
def _delayed_signals() -> Generator[None]:
    """Signals to this thread wait until the end of the block; processes started in it have them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _shared_signals())
    try:
        resource_tracker.ensure_running()  # the first process would start it, which unblocks signals
        signal.pthread_sigmask(signal.SIG_BLOCK, _shared_signals())
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shared_signals() -> set[signal.Signals]:
    return {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
