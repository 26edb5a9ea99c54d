"""Decoded words of one stretch of audio as events: frames become seconds of the session."""

from __future__ import annotations

from collections.abc import Sequence

from .decode import DecodedWord, confidence
from .events import Final, Word
from .frames import STRIDE, seconds
from .vocabulary import Vocabulary


def report_words(words: Sequence[DecodedWord], start: int, *, committed: bool = True) -> tuple[Word, ...]:
    """Words whose frames are counted from sample `start`."""
    return tuple(
        Word(
            word.text,
            seconds(start + word.start * STRIDE),
            seconds(start + word.end * STRIDE),
            round(word.confidence, 3),
            committed,
        )
        for word in words
    )


def report_final(
    words: Sequence[DecodedWord],
    vocabulary: Vocabulary,
    *,
    utterance: int,
    start: int,
    end: int,
    lag_ms: float = 0.0,
    level: int = 0,
) -> Final | None:
    """The final of samples `[start, end)`; None where nothing was said."""
    if not words:
        return None
    return Final(
        utterance=utterance,
        text=vocabulary.join(word.text for word in words),
        words=report_words(words, start),
        start=seconds(start),
        end=seconds(end),
        confidence=round(confidence(words), 3),
        lag_ms=lag_ms,
        level=level,
    )
