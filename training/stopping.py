"""Stopping a run: SIGTERM and Ctrl-C let it save first, a second one ends the program at once."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any


class StopRequest:
    """`asked` becomes True with the first signal, which writes `message` to stderr.

    A context manager: outside it, signals act as before.
    """

    def __init__(self, message: str = "") -> None:
        self.asked = False
        self._message = message
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, *_: object) -> None:
        self.asked = True
        self._restore()
        with suppress(OSError):
            os.write(2, self._message.encode())  # a handler must not enter `sys.stderr`, which may be in use

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
