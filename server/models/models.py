"""The model that new sessions get, and earlier ones that sessions still use."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ...streaming.recognizer import Recognizer
from .watchdog import EVERY_S, Watchdog

CLOSING_S: Final = 5.0


@dataclass(eq=False)
class _Loaded:
    recognizer: Recognizer
    watchdog: Watchdog
    ours: bool = True  # to close
    users: int = 0


class Models:
    """A session keeps its model to its end; one that has been replaced is closed when nobody uses it any more.

    `borrowed`: the first one stays open whatever happens.
    """

    def __init__(self, recognizer: Recognizer, stall_s: float, *, borrowed: bool = False) -> None:
        self._stall_s = stall_s
        self._loaded = [_Loaded(recognizer, Watchdog(recognizer.engine, stall_s), not borrowed)]

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._loaded)

    @property
    def current(self) -> Recognizer:
        return self._loaded[-1].recognizer

    @contextmanager
    def used(self) -> Generator[Recognizer]:
        """The current one, for the length of the block."""
        one = self._loaded[-1]
        one.users += 1
        try:
            yield one.recognizer
        finally:
            one.users -= 1
            self._clean()

    def replace(self, recognizer: Recognizer) -> None:
        """New sessions get this one, which is ours to close."""
        self._loaded.append(_Loaded(recognizer, Watchdog(recognizer.engine, self._stall_s)))
        self._clean()

    async def watch(self) -> None:
        """Look after their engines, for ever."""
        while True:
            for one in self._loaded:
                one.watchdog.look()
            await asyncio.sleep(EVERY_S)

    def close(self) -> None:
        """Close all that are ours; waits a little for what they are at, unless they are given up."""
        for one in self._loaded:
            if one.ours:
                one.recognizer.close(timeout=CLOSING_S if one.recognizer.engine.alive else 0.0)

    def _clean(self) -> None:
        for one in [one for one in self._loaded[:-1] if not one.users]:
            self._loaded.remove(one)
            if one.ours:
                one.recognizer.close(timeout=0)  # the loop must not wait, and there is nothing left to do
