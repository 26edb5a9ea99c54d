"""Numbers that every front writes for itself and all read, in a mapped file: no locks, no messages."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np


class Posted(IntEnum):
    """What a front posts."""

    CONNECTIONS = 0  # open
    VIEWERS = 1  # of shared sessions
    AWAY = 2  # clients that may resume a session
    LEVEL = 3  # of service


class Board:
    """One row for each front; that of a front which starts again is zero. `number` is the own one; the supervisor has
    none."""

    def __init__(self, file: Path, fronts: int, number: int | None = None) -> None:
        mode = "r+" if file.exists() else "w+"
        self._rows: Any = np.memmap(file, np.int64, mode, shape=(fronts, len(Posted)))
        self._number = number

    def add(self, what: Posted, change: int) -> None:
        self._rows[self._number, what] += change

    def post(self, what: Posted, value: int) -> None:
        self._rows[self._number, what] = value

    def total(self, what: Posted) -> int:
        """The sum over all fronts."""
        return int(self._rows[:, what].sum())

    def values(self, what: Posted) -> list[int]:
        """Of all fronts."""
        return [int(value) for value in self._rows[:, what]]

    def leads(self, what: Posted) -> bool:
        """Whether another front has less than this one."""
        column = self._rows[:, what]
        return bool(column[self._number] > column.min())

    def clear(self, number: int) -> None:
        """Front `number` has ended."""
        self._rows[number] = 0
