"""Cues of translations, at the times of the original's cues.

A translation has no times of its own. Its words are spread over the cues of its final in proportion to their lengths. A
part that does not fit into two lines shares the time of its cue between two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor
from typing import Final as Constant

from ..protocol.events import Event, Final, SpeechEnded, Translation, Word
from .cues import LINE_CHARS, Cue, CueMaker
from .line_breaks import two_lines

MOST_OPEN: Constant = 100  # finals whose translations may still come


class TranslatedCues:
    """Takes the events of a session and returns the cues of its translations into `language`; None: into any."""

    def __init__(self, language: str | None = None, *, line_chars: int = LINE_CHARS, early: bool = False) -> None:
        self._language = language
        self._line_chars = line_chars
        self._original = CueMaker(line_chars=line_chars, early=early)
        self._open: list[Cue] = []  # of the open utterance
        self._cues: dict[int, list[Cue]] = {}  # of finals

    def receive(self, event: Event) -> list[Cue]:
        """The cues that this event completes."""
        self._open += self._original.receive(event)
        match event:
            case Final():
                self._cues[event.utterance], self._open = self._open, []
                if len(self._cues) > MOST_OPEN:
                    del self._cues[min(self._cues)]
            case SpeechEnded():
                self._open = []
            case Translation() if self._language in (None, event.language):
                whole = Cue(event.start, event.end, (event.text,))  # of a final that is not known
                return list(spread(event.text, self._cues.get(event.utterance) or [whole], self._line_chars))
            case _:
                pass
        return []


def spread(text: str, cues: Sequence[Cue], line_chars: int = LINE_CHARS) -> Iterator[Cue]:
    """The text over the times of `cues`, in proportion to their lengths."""
    separator = " " if " " in text.strip() or len(text) <= line_chars else ""
    pieces = [part for word in (text.split() if separator else text) for part in _chopped(word, line_chars)]
    total = sum(map(_length, cues))
    letters = sum(map(len, pieces))
    at = said = 0
    due = 0.0
    for number, cue in enumerate(cues, 1):
        due += _length(cue) / total * letters
        first = at
        while at < len(pieces) and (number == len(cues) or said + len(pieces[at]) / 2 <= due):
            said += len(pieces[at])
            at += 1
        if first < at:
            yield from _fitted(pieces[first:at], separator, cue.start, cue.end, line_chars)


def _fitted(pieces: list[str], separator: str, start: float, end: float, line_chars: int) -> Iterator[Cue]:
    """One cue, or as many as two lines each need."""
    if lines := two_lines([Word(piece, 0.0, 0.0, 1.0) for piece in pieces], separator, line_chars):
        yield Cue(start, end, lines)
        return
    half = len(pieces) // 2
    middle = floor((start + end) * 500) / 1000
    yield from _fitted(pieces[:half], separator, start, middle, line_chars)
    yield from _fitted(pieces[half:], separator, middle, end, line_chars)


def _chopped(word: str, length: int) -> list[str]:
    return [word[at : at + length] for at in range(0, len(word), length)]


def _length(cue: Cue) -> int:
    return max(1, sum(map(len, cue.lines)))
