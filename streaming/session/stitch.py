"""Log-probabilities in frame order, for any order of the encoder's answers.

Committed rows come once, in order and without a gap; volatile rows replace the earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..requests import Window

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stitched:
    """Rows of one step: log-probabilities, (frames, vocabulary)."""

    window: Window
    committed: Rows  # frames [window.committed, window.commit)
    volatile: Rows  # frames [window.commit, window.newest)


class Stitcher:
    """Holds the answers of one utterance until those of all earlier steps are there."""

    def __init__(self) -> None:
        self._next = 0
        self._waiting: dict[int, Stitched] = {}

    def add(self, window: Window, rows: Rows) -> list[Stitched]:
        """Take the rows of frames `[window.committed, window.newest)`; return the steps now complete, in order.

        Raises `ValueError` if the number of rows is wrong or the step was answered before.
        """
        if len(rows) != window.newest - window.committed:
            raise ValueError(f"{len(rows)} rows for frames [{window.committed}, {window.newest})")
        if window.step < self._next or window.step in self._waiting:
            raise ValueError(f"step {window.step} was answered before")
        complete = window.commit - window.committed
        self._waiting[window.step] = Stitched(window, rows[:complete], rows[complete:])
        ready: list[Stitched] = []
        while self._next in self._waiting:
            ready.append(self._waiting.pop(self._next))
            self._next += 1
        return ready
