"""Cues (the units of subtitles) out of final words, while they are spoken. A cue that was made is never changed.

Numbers and where they come from:

    LINE_CHARS, LINES   42 characters, 2 lines: Netflix, "English Timed Text Style Guide"
    SPEED               17 characters a second, for adults: Netflix, the same (13 for children)
    SHORTEST, LONGEST   5/6 s and 7 s on screen: Netflix, "Timed Text Style Guide: General Requirements"
    GAP                 2 frames between cues: the same; here of 24 frames a second
    LATE                no subtitle begins more than 1.5 s after its speech: BBC, "Subtitle Guidelines", synchronisation

Lines, durations and gaps always hold. Reading speed is met by time and not by leaving out words: a cue stays past its
last word, into the pause that follows or for as long as the next cue may be late. Where even that is too short it is
told too fast, and counted (`CueMaker.fast`). Cues that the shortest time keeps apart may be later than `LATE`.

A cue is full when the next word finds no room in it; it is then broken where that is best (`breaks`). So what a cue
holds depends on its words and the one after them, not on when they came: words that are committed and never revised
(`finals` append) give the same cues as their final, sooner.
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
    start: float  # seconds
    end: float  # seconds
    lines: tuple[str, ...]

    @property
    def speed(self) -> float:
        """Characters a second that a reader must manage; a line break counts as the space that it is."""
        return (sum(map(len, self.lines)) + len(self.lines) - 1) / (self.end - self.start)


class CueMaker:
    """Give it the events of a session and take its cues, in order; every word of the finals is in exactly one.

    `early` makes cues of committed words before their final; that is for sessions whose finals append.
    """

    def __init__(self, *, line_chars: int = LINE_CHARS, speed: float = SPEED, early: bool = False) -> None:
        self.made = 0  # cues
        self.fast = 0  # of them have to be read faster than `speed`
        self._line_chars = line_chars
        self._speed = speed
        self._early = early
        self._free = 0.0  # from when on there may be a cue
        self._taken = 0  # words of the open utterance
        self._words: list[Word] = []  # those of them that are in no cue yet
        self._separator = " "

    def receive(self, event: Event) -> list[Cue]:
        """The cues that the event completes."""
        match event:
            case Partial() if self._early:
                self._take([word for word in event.words if word.committed], event.committed)
                return list(self._full())
            case Final():
                self._take(event.words or [Word(event.text, event.start, event.end, event.confidence)], event.text)
                return list(self._finish(event.end))
            case SpeechEnded():  # after a final there is nothing left
                return list(self._finish(event.end))
            case _:
                return []

    def _take(self, words: Sequence[Word], text: str) -> None:
        # Vocabularies without a separator write their words, which are characters then, without spaces.
        self._separator = " " if " " in text or len(words) < 2 else ""
        self._words.extend(self._pieces(words[self._taken :]))
        self._taken = max(self._taken, len(words))

    def _pieces(self, words: Iterable[Word]) -> Iterator[Word]:
        """The words; one longer than a line in parts that share its time by length."""
        for word in words:
            step = (word.end - word.start) / max(1, len(word.word))
            for at in range(0, len(word.word), self._line_chars):
                part = word.word[at : at + self._line_chars]
                start = word.start + step * at
                yield Word(part, start, start + step * len(part), word.confidence)

    def _finish(self, end: float) -> Iterator[Cue]:
        """The utterance is over: its words are, too. The next one has none before `end`."""
        yield from self._full()
        if self._words:
            yield self._cue(self._words, end)
        self._words, self._taken = [], 0

    def _full(self) -> Iterator[Cue]:
        while count := self._break(self._words):
            cue, self._words = self._words[:count], self._words[count:]
            yield self._cue(cue, self._words[0].start)

    def _break(self, words: list[Word]) -> int:
        """How many words the next cue has; 0 while there is room for more."""
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
        """Of a cue of `count` words, where `most` would fit."""
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
        self.fast += cue.speed > self._speed + 0.1  # as exact as milliseconds allow
        return cue


def cues(finals: Iterable[Final]) -> Iterator[Cue]:
    """The cues of finals that follow each other."""
    maker = CueMaker()
    for final in finals:
        yield from maker.receive(final)
