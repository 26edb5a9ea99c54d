"""The last line of a run on a terminal: how much audio, how many words."""

from __future__ import annotations

from typing import TextIO

from ...streaming.captions.subtitles import short_clock
from ...streaming.protocol.events import Event, Final, SessionEnded
from .formats import Output


class Totals(Output):
    """Writes `0:38 of audio, 52 words` at the end of a run that had a session."""

    quiet = True

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._words = 0
        self._audio_s: float | None = None

    def show(self, event: Event) -> None:
        match event:
            case Final():
                self._words += len(event.words or event.text.split())
            case SessionEnded():
                self._audio_s = (self._audio_s or 0.0) + event.audio_s
            case _:
                pass

    def close(self) -> None:
        if self._audio_s is not None:
            audio = short_clock(self._audio_s).partition(".")[0]
            self._write(f"{audio} of audio, {self._words} {'word' if self._words == 1 else 'words'}\n")
