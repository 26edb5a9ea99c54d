"""Makes cues (the units of subtitles) from final words during speech. A finished cue never changes.

Numbers and their sources:

    LINE_CHARS, LINES   42 characters, 2 lines: Netflix, "English Timed Text Style Guide"
    SPEED               17 characters a second, for adults: Netflix, the same (13 for children)
    SHORTEST, LONGEST   5/6 s and 7 s on screen: Netflix, "Timed Text Style Guide: General Requirements"
    GAP                 2 frames between cues: the same; here of 24 frames a second
    LATE                no subtitle begins more than 1.5 s after its speech: BBC, "Subtitle Guidelines", synchronisation

The limits of lines, durations and gaps always hold. For reading speed a cue never omits words; it stays on screen past
its last word, into the pause that follows or as long as the next cue may be late. If that is still too short, the cue
is too fast and counts in `CueMaker.fast`. A cue that waits for the shortest duration of others may exceed `LATE`.

A cue is full when the next word does not fit; it then breaks at the best place (`line_breaks`). So its content depends
on its words and the next one, not on when they arrive. Committed words that no final revises (`finals` append) give the
same cues as their final, but earlier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final as Constant
from typing import NamedTuple

from ..protocol.events import Event, Final, Partial, SpeechEnded, Word
from .line_breaks import merit, two_lines

LINE_CHARS: Constant = 42
LINES: Constant = 2
SPEED: Constant = 17.0  # characters a second, spaces included
SHORTEST: Constant = 5 / 6  # seconds on screen
LONGEST: Constant = 7.0  # seconds on screen
GAP: Constant = 2 / 24  # seconds between two cues
LATE: Constant = 1.5  # seconds after its first word
APART: Constant = 1.2  # seconds of silence that no cue spans


class Cue(NamedTuple):
    """One caption: lines that are shown from `start` to `end`."""

    start: float  # seconds
    end: float  # seconds
    lines: tuple[str, ...]

    @property
    def speed(self) -> float:
        """Characters a second for the reader; a line break counts as a space."""
        return (sum(map(len, self.lines)) + len(self.lines) - 1) / (self.end - self.start)


class CueMaker:
    """Takes the events of a session and returns cues in order; every word of the finals is in exactly one cue.

    `early` makes cues from committed words before their final, for sessions whose finals append.
    """

    def __init__(self, *, line_chars: int = LINE_CHARS, speed: float = SPEED, early: bool = False) -> None:
        self.made = 0  # cues
        self.fast = 0  # cues faster than `speed`
        self._line_chars = line_chars
        self._speed = speed
        self._early = early
        self._free = 0.0  # earliest start of the next cue
        self._taken = 0  # words taken from the open utterance
        self._words: list[Word] = []  # of these, words in no cue yet
        self._separator = " "

    def receive(self, event: Event) -> list[Cue]:
        """The cues that this event completes."""
        match event:
            case Partial() if self._early:
                self._take([word for word in event.words if word.committed], event.committed)
                return list(self._full())
            case Final():
                self._take(event.words or [Word(event.text, event.start, event.end, event.confidence)], event.text)
                return list(self._finish(event.end))
            case SpeechEnded():  # after a final no words are left
                return list(self._finish(event.end))
            case _:
                return []

    def _take(self, words: Sequence[Word], text: str) -> None:
        # Without a separator words are characters, written without spaces.
        self._separator = " " if " " in text or len(words) < 2 else ""
        self._words.extend(self._pieces(words[self._taken :]))
        self._taken = max(self._taken, len(words))

    def _pieces(self, words: Iterable[Word]) -> Iterator[Word]:
        """The words. A word longer than a line becomes several; each gets a share of its time."""
        for word in words:
            step = (word.end - word.start) / max(1, len(word.word))
            for at in range(0, len(word.word), self._line_chars):
                part = word.word[at : at + self._line_chars]
                start = word.start + step * at
                yield Word(part, start, start + step * len(part), word.confidence)

    def _finish(self, end: float) -> Iterator[Cue]:
        """The utterance is over; no later word begins before `end`."""
        yield from self._full()
        if self._words:
            yield self._cue(self._words, end)
        self._words, self._taken = [], 0

    def _full(self) -> Iterator[Cue]:
        while count := self._break(self._words):
            cue, self._words = self._words[:count], self._words[count:]
            yield self._cue(cue, self._words[0].start)

    def _break(self, words: list[Word]) -> int:
        """Number of words of the next cue; 0 while more words fit."""
        for count in range(1, len(words)):
            if words[count].start - words[count - 1].end >= APART:
                return count
            if not self._fits(words[: count + 1]):
                return max(range(1, count + 1), key=lambda n: self._merit(words, n, count))
        return 0

    def _fits(self, words: list[Word]) -> bool:
        long = words[-1].end - words[0].start > LONGEST
        return not long and bool(two_lines(words, self._separator, self._line_chars))

    def _merit(self, words: list[Word], count: int, most: int) -> float:
        """Merit of a cue of `count` words where `most` fit."""
        length = [sum(len(word.word) + 1 for word in words[:n]) for n in (count, most)]
        flash = words[count].start - words[0].start < SHORTEST + GAP
        return merit(words[count - 1], words[count]) - 3.0 * (1 - length[0] / length[1]) - 5.0 * flash

    def _cue(self, words: list[Word], following: float) -> Cue:
        """A cue of `words`; the next word begins at `following` or later."""
        lines = two_lines(words, self._separator, self._line_chars)
        length = sum(map(len, lines)) + len(lines) - 1
        start = max(words[0].start, self._free)
        wanted = max(words[-1].end, start + length / self._speed)
        end = max(min(wanted, following + LATE - GAP, start + LONGEST), start + SHORTEST)
        self._free = end + GAP
        cue = Cue(round(start, 3), round(end, 3), lines)
        self.made += 1
        self.fast += cue.speed > self._speed + 0.1  # within the rounding to milliseconds
        return cue


def cues(finals: Iterable[Final]) -> Iterator[Cue]:
    """The cues of consecutive finals."""
    maker = CueMaker()
    for final in finals:
        yield from maker.receive(final)
