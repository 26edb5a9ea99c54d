"""Cut a final into subtitle cues by the customary guidelines: two lines of 42 characters, at most seven seconds.

The numbers are those of the Netflix timed text style guide, which most subtitle tools follow.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..streaming.events import Final, Word

LINE_CHARS = 42
LINES = 2
LONGEST = 7.0  # seconds on screen
SHORTEST = 5 / 6  # seconds on screen, where the utterance leaves the room


class Cue(NamedTuple):
    start: float  # seconds
    end: float  # seconds
    lines: tuple[str, ...]


def cues(final: Final) -> list[Cue]:
    """The cues of one final, in order and without overlap, all inside the utterance."""
    groups = list(_groups(_pieces(final)))
    found: list[Cue] = []
    for place, group in enumerate(groups):
        limit = groups[place + 1][0].start if place + 1 < len(groups) else final.end
        start = group[0].start
        end = max(group[-1].end, min(start + SHORTEST, limit), start + 0.001)
        found.append(Cue(start, end, _lines(group)))
    return found


def _groups(words: Iterable[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group and (len(_lines([*group, word])) > LINES or word.end - group[0].start > LONGEST):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _lines(words: Iterable[Word]) -> tuple[str, ...]:
    return tuple(textwrap.wrap(" ".join(word.word for word in words), LINE_CHARS, break_on_hyphens=False))


def _pieces(final: Final) -> Iterator[Word]:
    """The words; one longer than a line (a script without spaces) in parts that share its time by length."""
    for word in final.words or (Word(final.text, final.start, final.end, final.confidence),):
        step = (word.end - word.start) / max(1, len(word.word))
        for at in range(0, len(word.word), LINE_CHARS):
            part = word.word[at : at + LINE_CHARS]
            start = word.start + step * at
            yield Word(part, start, start + step * len(part), word.confidence)
