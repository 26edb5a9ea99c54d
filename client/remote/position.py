"""How far a session is, by its events: what another server must know to continue it."""

from __future__ import annotations

from ...streaming.config import Origin
from ...streaming.languages import UNDETERMINED
from ...streaming.protocol.events import Command, Event, LanguageIdentified, Rejected, SpeechEnded, SpeechStarted


class SessionPosition:
    """Takes all events of a session in order."""

    def __init__(self) -> None:
        self.open = False  # whether an utterance is open
        self._utterance = 0
        self._final_end = 0.0
        self._decided = False
        self._woken: float | None = None
        self._wakes: float | None = None  # end of the open utterance's wake phrase
        self._language: str | None = None

    def receive(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case SpeechStarted():
                self.open = True
            case Command(early=True):
                self._decided = True
            case Rejected(reason="woken"):
                self._wakes = event.audio_s
            case LanguageIdentified() if event.language != UNDETERMINED:
                self._language = event.language
            case SpeechEnded():
                self.open = self._decided = False
                self._utterance, self._final_end = event.utterance + 1, event.end
                self._woken, self._wakes = self._wakes, None
            case _:
                pass

    def origin(self, sample: int) -> Origin:
        """The origin with which another server continues, for audio from `sample` on."""
        return Origin(
            sample=sample,
            utterance=self._utterance,
            final_end=self._final_end,
            decided=self._decided,
            woken=self._woken,
            language=self._language,
        )
