"""Line and cue breaks in text without punctuation: at pauses and between clauses.

The rules are those of subtitlers (Netflix, "English Timed Text Style Guide", line treatment; BBC, "Subtitle
Guidelines", line breaks): before a conjunction, before a preposition, and not between an article and its noun, a
preposition and what follows, an auxiliary or a pronoun and its verb. The word lists are English. In other languages
only pauses and balance decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from ..protocol.events import Word


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


CLAUSE: Final = _listed(
    "and but or nor so yet because although though while when where which who whom whose that if unless until since as "
    "than whether"
)
PREPOSITION: Final = _listed(
    "of to in on at by with from for into over under about after before between through during without within upon "
    "against among toward towards near behind beyond across along around"
)
BOUND: Final = (  # to the next word
    CLAUSE
    | PREPOSITION
    | _listed("a an the this these those my your his her its our their some any no every each")
    | _listed("i you he she it we they there mr mrs ms dr saint st very more most")
    | _listed(
        "is are was were be been am have has had do does did will would shall should can could may might must not"
    )
)
PAUSE: Final = 0.5  # seconds; a longer pause has no more merit


def merit(left: Word, right: Word) -> float:
    """Merit of a break between two words, from -1.5 (inside a phrase) to 3 (a pause and a new clause)."""
    last, first = left.word.casefold(), right.word.casefold()
    clause = 1.0 if first in CLAUSE else 0.6 if first in PREPOSITION else 0.0
    return 2.0 * min(max(0.0, right.start - left.end), PAUSE) / PAUSE + clause - 1.5 * (last in BOUND)


def two_lines(words: Sequence[Word], separator: str, width: int) -> tuple[str, ...]:
    """The words in at most two lines of `width` characters, with the best break; empty if they do not fit.

    Words that fit into one line stay in one. Two lines are balanced, with a slight preference for a longer second line.
    """
    texts = [word.word for word in words]
    ends = [end - len(separator) for end in accumulate(len(text) + len(separator) for text in texts)]
    if ends[-1] <= width:
        return (separator.join(texts),)
    best: tuple[float, int] | None = None
    for count in range(1, len(words)):
        above, below = ends[count - 1], ends[-1] - ends[count - 1] - len(separator)
        if above <= width and below <= width:
            uneven = 2.0 * abs(above - below) / width + 0.2 * (above > below)
            best = max(best or (float("-inf"), 0), (merit(words[count - 1], words[count]) - uneven, count))
    return (separator.join(texts[: best[1]]), separator.join(texts[best[1] :])) if best else ()
