"""Subtitles: finals cut into cues by the customary guidelines (two lines of 42 characters, at most seven seconds), and
cues as SubRip and WebVTT.

The numbers are those of the Netflix timed text style guide, which most subtitle tools follow.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .events import Final, Word

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


def srt(number: int, cue: Cue) -> str:
    """A cue of SubRip; numbers run from 1."""
    return f"{number}\n{_times(cue, ',')}\n" + "\n".join(cue.lines) + "\n\n"


VTT_HEADER = "WEBVTT\n\n"


def vtt(cue: Cue) -> str:
    """A cue of WebVTT (W3C)."""
    text = "\n".join(cue.lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{_times(cue, '.')}\n{text}\n\n"


def clock(seconds: float, mark: str = ".") -> str:
    """`hh:mm:ss.mmm`, with `mark` before the milliseconds."""
    whole, millis = divmod(round(seconds * 1000), 1000)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{secs:02}{mark}{millis:03}"


def _times(cue: Cue, mark: str) -> str:
    return f"{clock(cue.start, mark)} --> {clock(cue.end, mark)}"


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
