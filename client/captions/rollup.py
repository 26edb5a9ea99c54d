"""Roll-up captions: the last two lines of text in a file that other programs show (OBS: "Read from file")."""

from __future__ import annotations

import threading
from functools import partial
from typing import Final as Constant

from ...streaming.captions.cues import LINE_CHARS, LINES
from ...streaming.protocol.events import Event, Final, Partial, SpeechEnded, Translation
from ..output.formats import Output
from ..output.lines import wrap
from .files import ReplacedFile

HOLD_S: Constant = 8.0  # how long the last text stays, as in the browser overlay


class RollUp(Output):
    """Committed words at once, then the final. Only a final changes a full line.

    The file becomes empty `hold_s` after the last change, and at the end; with `hold_s=None` the last text stays. A
    timer (`alarm`) does it, because no events arrive in silence. With a `language` it shows the translations into it.
    """

    def __init__(
        self,
        file: ReplacedFile,
        *,
        hold_s: float | None = HOLD_S,
        alarm: type[threading.Timer] = threading.Timer,
        language: str | None = None,
    ) -> None:
        super().__init__(file)
        self._file = file
        self._hold_s, self._alarm = hold_s, alarm
        self._language = language
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._version = 0  # of the text
        self._final_lines: list[str] = []
        self._shown = ""

    def show(self, event: Event) -> None:
        with self._lock:
            match event:
                case Translation(text=text) if event.language == self._language:
                    self._finish(text)
                case _ if self._language is not None:
                    pass
                case Partial(committed=text):
                    self._roll([*self._final_lines, *wrap(text, LINE_CHARS)])
                case Final(text=text):
                    self._finish(text)
                case SpeechEnded():
                    self._roll(self._final_lines)
                case _:
                    pass

    def close(self) -> None:
        if self._hold_s is not None:
            self._clear(self._version)

    def _finish(self, text: str) -> None:
        self._final_lines = [*self._final_lines, *wrap(text, LINE_CHARS)][-LINES:]
        self._roll(self._final_lines)

    def _roll(self, lines: list[str]) -> None:
        if (text := "\n".join(lines[-LINES:])) == self._shown:
            return
        self._version += 1
        self._shown = text
        self._file.set(text)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if text and self._hold_s is not None:
            self._timer = self._alarm(self._hold_s, partial(self._clear, self._version))
            self._timer.daemon = True
            self._timer.start()

    def _clear(self, version: int) -> None:
        """Empty the file unless the text changed after `version`."""
        with self._lock:
            if version == self._version:
                self._final_lines = []
                self._roll([])
