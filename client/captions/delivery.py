"""Deliver captions to another program in a thread of their own, so that a failure there delays nothing here."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from ...streaming.captions.cues import Cue
from ..console import complain

PAUSES: Final = (1.0, 30.0)  # seconds before the next attempt: after the first failure, and at most
CLOSE_S: Final = 5.0  # how long the end waits for captions that are not delivered yet


class Undelivered(Exception):
    """A caption was not delivered; the message gives the reason."""


class Delivery:
    """Passes captions to `send` in order, each until it succeeds. A context manager.

    `send` raises `Undelivered` or `OSError`; another exception is an internal error, but does not end the thread. Only
    the newest `limit` captions wait; the number of lost ones is printed at the end. A failure is printed once, and once
    more when it is over. `contact` runs at the start, if given: it returns a message to print, or raises as `send`.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Cue], None],
        *,
        limit: int,
        contact: Callable[[], str] | None = None,
        pauses: tuple[float, float] = PAUSES,
        close_s: float = CLOSE_S,
    ) -> None:
        self._name, self._send, self._contact = name, send, contact
        self._failing = False
        self._pauses, self._close_s = pauses, close_s
        self._waiting: deque[Cue] = deque(maxlen=limit)
        self._put = self._sent = 0
        self._changed = threading.Condition()
        self._closing = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"captions to {name}", daemon=True)

    def __enter__(self) -> Delivery:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(self._close_s)
        self._stopped.set()
        if lost := self._put - self._sent:
            complain(f"{lost} of {self._put} captions did not reach {self._name}")

    def put(self, cue: Cue) -> None:
        with self._changed:
            self._put += 1
            self._waiting.append(cue)
            self._changed.notify()

    def _work(self) -> None:
        if self._contact:
            try:
                complain(f"{self._name}: {self._contact()}")
            except Exception as error:
                self._report(error, "the next caption tries again")
        while not self._stopped.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                cue = self._waiting.popleft()
            self._deliver(cue)

    def _deliver(self, cue: Cue) -> None:
        pause, longest = self._pauses
        while not self._stopped.is_set():
            try:
                self._send(cue)
            except Exception as error:
                self._report(error, "trying again")
                self._stopped.wait(pause)
                pause = min(2 * pause, longest)
            else:
                self._sent += 1
                if self._failing:
                    complain(f"captions reach {self._name} again")
                self._failing = False
                return

    def _report(self, error: Exception, then: str) -> None:
        if not self._failing:
            complain(f"captions do not reach {self._name}: {_why(error)}; {then}")
        self._failing = True


def _why(error: Exception) -> str:
    match error:
        case Undelivered():
            return str(error)
        case OSError():
            return error.strerror or str(error)  # without the error number
        case _:  # no repr: it may hold the address, which is secret
            return f"internal error: {type(error).__name__}: {error}"
