"""Stopping a run: SIGTERM and Ctrl-C let it save first, a second one ends the program at once."""

from __future__ import annotations

import signal
from typing import Any


class StopRequest:
    """`asked` becomes True with the first signal. A context manager: outside it, signals act as before."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        self.asked = True
        signal.signal(number, self._before[number])
