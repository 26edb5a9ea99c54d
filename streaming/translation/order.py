"""The translations of one session in order: a state machine without I/O.

For each language, translations come in the order of their finals. If a final has no translation, the session gets a
warning. In a series of such finals only the first one gets it; at the end of the session, another warning counts all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from ..protocol.events import Event, Final, Translation, Warning
from .service import NoTranslation, Outcome

NOT_TRANSLATED = "not_translated"


@dataclass(eq=False)
class _Slot:
    final: Final
    requested: float
    outcome: Outcome | None = None
    answered: float = 0.0


@dataclass
class _Line:
    """The translations into one language."""

    slots: deque[_Slot] = field(default_factory=deque[_Slot])
    missing: int = 0  # finals without a translation
    failing: bool = False  # the last final has no translation
    announced: int = 0  # missing ones with their own warning


class TranslationOrder:
    """`now` is any clock in seconds that never goes back."""

    def __init__(self, languages: Iterable[str]) -> None:
        self._lines = {language: _Line() for language in languages}
        self._events: list[Event] = []

    @property
    def pending(self) -> int:
        """Translations without an outcome."""
        return sum(slot.outcome is None for line in self._lines.values() for slot in line.slots)

    def receive_final(self, final: Final, language: str, now: float) -> None:
        """Expect a translation of this final into a language."""
        self._lines[language].slots.append(_Slot(final, now))

    def receive_outcome(self, utterance: int, language: str, outcome: Outcome, now: float) -> None:
        """Take the outcome of an expected translation. A second one for the same utterance changes nothing."""
        line = self._lines[language]
        for slot in line.slots:
            if slot.final.utterance == utterance and slot.outcome is None:
                slot.outcome, slot.answered = outcome, now
        while line.slots and line.slots[0].outcome is not None:
            self._release(language, line, line.slots.popleft())

    def give_up(self, why: NoTranslation, now: float) -> None:
        """Expect no more outcomes: pending translations get the outcome `why`."""
        for language, line in self._lines.items():
            for slot in list(line.slots):
                self.receive_outcome(slot.final.utterance, language, why, now)

    def finish(self) -> None:
        """Warn about the number of missing translations; for the end of the session."""
        for language, line in self._lines.items():
            if line.missing > line.announced:
                self._warn(f"{line.missing} finals have no translation into {language}")

    def events(self) -> list[Event]:
        """Events since the last call, in order."""
        events, self._events = self._events, []
        return events

    def _release(self, language: str, line: _Line, slot: _Slot) -> None:
        final = slot.final
        if isinstance(slot.outcome, NoTranslation):
            line.missing += 1
            if not line.failing:
                line.announced += 1
                self._warn(f"utterance {final.utterance} has no translation into {language}: {slot.outcome.why}")
            line.failing = True
            return
        line.failing = False
        if slot.outcome:
            event = Translation(
                utterance=final.utterance, language=language, text=slot.outcome, start=final.start, end=final.end
            )
            lag_ms = round(final.lag_ms + 1000 * (slot.answered - slot.requested), 1)
            self._events.append(msgspec.structs.replace(event, lag_ms=lag_ms, level=final.level))

    def _warn(self, message: str) -> None:
        self._events.append(Warning(code=NOT_TRANSLATED, message=message))
