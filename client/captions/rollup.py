"""Roll-up captions: the last two lines of what was said, in a file that other programs show (OBS: "Read from file")."""

from __future__ import annotations

import threading
from functools import partial
from typing import Final as Constant

from ...streaming.captions.cues import LINE_CHARS, LINES
from ...streaming.protocol.events import Event, Final, Partial, SpeechEnded
from ..output.formats import Output
from ..output.lines import wrap
from .files import Replaced

HOLD_S: Constant = 8.0  # so long the last text stays, as in the overlay


class RollUp(Output):
    """Committed words as they come, then the final. A full line never changes but by a final that corrects it.

    The file is empty after `hold_s` without another text, and at the end; without `hold_s` the last text stays. No
    events come in silence, so an `alarm` tells when.
    """

    def __init__(
        self, file: Replaced, *, hold_s: float | None = HOLD_S, alarm: type[threading.Timer] = threading.Timer
    ) -> None:
        super().__init__(file)
        self._file = file
        self._hold_s, self._alarm = hold_s, alarm
        self._lock = threading.Lock()
        self._pending: threading.Timer | None = None
        self._texts = 0  # so far
        self._done: list[str] = []  # lines of finals
        self._shown = ""

    def show(self, event: Event) -> None:
        with self._lock:
            match event:
                case Partial(committed=text):
                    self._roll([*self._done, *wrap(text, LINE_CHARS)])
                case Final(text=text):
                    self._done = [*self._done, *wrap(text, LINE_CHARS)][-LINES:]
                    self._roll(self._done)
                case SpeechEnded():
                    self._roll(self._done)
                case _:
                    pass

    def close(self) -> None:
        if self._hold_s is not None:
            self._clear(self._texts)

    def _roll(self, lines: list[str]) -> None:
        if (text := "\n".join(lines[-LINES:])) == self._shown:
            return
        self._texts += 1
        self._shown = text
        self._file.set(text)
        if self._pending:
            self._pending.cancel()
            self._pending = None
        if text and self._hold_s is not None:
            self._pending = self._alarm(self._hold_s, partial(self._clear, self._texts))
            self._pending.daemon = True
            self._pending.start()

    def _clear(self, texts: int) -> None:
        """Unless there was another text meanwhile."""
        with self._lock:
            if texts == self._texts:
                self._done = []
                self._roll([])
