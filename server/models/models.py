"""The model of new sessions, and earlier models that sessions still use."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ...streaming.recognizer import Recognizer
from .watchdog import INTERVAL_S, Watchdog

CLOSE_TIMEOUT_S: Final = 5.0


@dataclass(eq=False)
class LoadedModel:
    """A recognizer in memory."""

    recognizer: Recognizer
    watchdog: Watchdog
    owned: bool = True  # closed by this server
    leases: int = 0


class Models:
    """A session keeps its model until its end. A replaced model is closed when its last lease ends.

    `borrowed`: the caller closes the first recognizer.
    """

    def __init__(self, recognizer: Recognizer, stall_s: float, *, borrowed: bool = False) -> None:
        self._stall_s = stall_s
        self._loaded = [LoadedModel(recognizer, Watchdog(recognizer.engine, stall_s), owned=not borrowed)]

    def __len__(self) -> int:
        """The number of models in memory."""
        return len(self._loaded)

    @property
    def current(self) -> Recognizer:
        return self._loaded[-1].recognizer

    @contextmanager
    def lease(self) -> Generator[Recognizer]:
        """The current model; it stays open for the length of the block."""
        model = self._loaded[-1]
        model.leases += 1
        try:
            yield model.recognizer
        finally:
            model.leases -= 1
            self._close_unused()

    def replace(self, recognizer: Recognizer) -> None:
        """Use this recognizer for new sessions, and own it."""
        self._loaded.append(LoadedModel(recognizer, Watchdog(recognizer.engine, self._stall_s)))
        self._close_unused()

    async def watch(self) -> None:
        """Run the watchdogs forever."""
        while True:
            for model in self._loaded:
                model.watchdog.check()
            await asyncio.sleep(INTERVAL_S)

    def close(self) -> None:
        """Close all owned models; waits briefly for their current batch, unless the engine has given up."""
        for model in self._loaded:
            if model.owned:
                model.recognizer.close(timeout=CLOSE_TIMEOUT_S if model.recognizer.engine.alive else 0.0)

    def _close_unused(self) -> None:
        for model in [model for model in self._loaded[:-1] if not model.leases]:
            self._loaded.remove(model)
            if model.owned:
                model.recognizer.close(timeout=0)  # no session uses it, and the event loop must not wait
