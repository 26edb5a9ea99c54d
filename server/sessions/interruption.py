"""Waits of one task that another can interrupt. `asyncio.timeout` can do that too, but costs several times as much."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Interrupted(Exception):
    """Another task has called `Interruption.interrupt`."""


class Interruption:
    """A context manager for one wait at a time. `interrupt` makes the open block raise `Interrupted`."""

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None  # inside the block
        self._cancelling = 0  # requests to cancel the task that came before
        self._interrupted = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._interrupted and task is not None:
            self._interrupted = False
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise Interrupted from error

    def interrupt(self) -> None:
        """Interrupt the open block, if there is one."""
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()
