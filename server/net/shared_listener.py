"""A listening socket that several fronts share, and that gives each the same number of connections.

The kernel wakes all fronts for a connection, and mostly the same one would take it. So a front that has more
connections than another one leaves it to the others, for `PATIENCE_S` at most: they may be busy or gone.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any, Final

from .board import Board, Posted

PATIENCE_S: Final = 0.005


class SharedListener(socket.socket):
    """Made of a listening socket; posts the number of its open connections."""

    def __init__(self, listener: socket.socket, board: Board) -> None:
        super().__init__(listener.family, listener.type, listener.proto, os.dup(listener.fileno()))
        self._board = board
        self._left_at: float | None = None  # when it first left the waiting connection to others

    def accept(self) -> tuple[socket.socket, Any]:
        """asyncio calls this while a connection waits. Raises `BlockingIOError` if others should take it, and when
        there is none."""
        if self._board.leads(Posted.CONNECTIONS):
            now = time.monotonic()
            if self._left_at is None or now - self._left_at > 2 * PATIENCE_S:  # another connection than last time
                self._left_at = now
            if now - self._left_at < PATIENCE_S:
                raise BlockingIOError
        self._left_at = None
        accepted, address = super().accept()
        return _Counted(self, accepted.detach(), self._board), address


class _Counted(socket.socket):
    """An accepted connection, posted until it is closed."""

    def __init__(self, listener: socket.socket, descriptor: int, board: Board) -> None:
        super().__init__(listener.family, listener.type, listener.proto, descriptor)
        self._posted: Board | None = board
        board.add(Posted.CONNECTIONS, 1)

    def close(self) -> None:
        if self._posted is not None:
            self._posted.add(Posted.CONNECTIONS, -1)
            self._posted = None
        super().close()
