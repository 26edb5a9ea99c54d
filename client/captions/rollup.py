"""Roll-up captions: the last two lines of what was said, in a file that other programs show (OBS: "Read from file")."""

from __future__ import annotations

from ...streaming.cues import LINE_CHARS, LINES
from ...streaming.events import Event, Final, Partial, SpeechEnded
from ..formats import Output
from ..lines import wrap
from .files import Replaced


class RollUp(Output):
    """Committed words as they come, then the final. A full line never changes but by a final that corrects it."""

    def __init__(self, file: Replaced) -> None:
        super().__init__(file)
        self._file = file
        self._done: list[str] = []  # lines of finals
        self._shown = ""

    def show(self, event: Event) -> None:
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

    def _roll(self, lines: list[str]) -> None:
        if (text := "\n".join(lines[-LINES:])) != self._shown:
            self._shown = text
            self._file.set(text)
