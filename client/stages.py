"""The stages of a start as text: loading, downloading with the time left, warming up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ..streaming.progress import Progress

MB: Final = 1_000_000
SETTLED: Final = 2.0  # seconds of a download before its speed counts


class Stages:
    """Passes each stage as one line of text to `show`."""

    def __init__(self, show: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._show, self._clock = show, clock
        self._begun: tuple[float, int] | None = None  # time and bytes of the first report of a download

    def __call__(self, progress: Progress) -> None:
        match progress.stage:
            case "downloading":
                self._show(self._download(progress))
            case "loading":
                self._show(f"loading the model ({progress.model})")
            case "warming up":
                self._show(f"warming up ({progress.model})")

    def _download(self, progress: Progress) -> str:
        now = self._clock()
        begun, first = self._begun = self._begun or (now, progress.done)
        text = f"downloading {progress.model}: {progress.done // MB:,} of {-(-progress.total // MB):,} MB"
        passed, arrived = now - begun, progress.done - first
        if passed < SETTLED or not arrived:
            return text
        left = round((progress.total - progress.done) * passed / arrived)
        return f"{text}, {left // 60}:{left % 60:02} left"
