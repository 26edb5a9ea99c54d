"""Decoded words of one stretch of audio as events: frames become seconds of the session."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..commands.decision import Candidate, Decision
from ..ctc.greedy import DecodedWord
from ..ctc.vocabulary import Vocabulary
from ..frames import STRIDE, seconds
from ..protocol.events import Alternative, Command, Final, Guess, Rejected, Word
from .decoding import Transcript


def report_words(
    words: Sequence[DecodedWord], confidences: Sequence[float], start: int, *, committed: bool = True
) -> tuple[Word, ...]:
    """Words whose frames are counted from sample `start`."""
    return tuple(
        Word(
            word.text,
            seconds(start + word.start * STRIDE),
            seconds(start + word.end * STRIDE),
            round(sure, 3),
            committed,
        )
        for word, sure in zip(words, confidences, strict=True)
    )


def report_final(
    heard: Transcript,
    vocabulary: Vocabulary,
    *,
    utterance: int,
    start: int,
    end: int,
    lag_ms: float = 0.0,
    level: int = 0,
) -> Final | None:
    """The final of samples `[start, end)`; None where nothing was said."""
    if not heard.words:
        return None

    def text(words: Sequence[DecodedWord]) -> str:
        return vocabulary.join(word.text for word in words)

    found = tuple(Alternative(text(each.words), round(each.score, 3)) for each in heard.hypotheses)
    return Final(
        utterance=utterance,
        text=text(heard.words),
        words=report_words(heard.words, heard.confidences, start),
        start=seconds(start),
        end=seconds(end),
        confidence=round(heard.confidence, 3),
        nbest=found or msgspec.UNSET,
        lag_ms=lag_ms,
        level=level,
    )


def report_decision(
    decision: Decision, *, utterance: int, start: int, heard: int, lag_ms: float = 0.0, level: int = 0
) -> Command | Rejected:
    """Of an utterance that begins at sample `start` and was heard up to sample `heard`."""
    best = decision.best
    others = tuple(map(_guess, decision.others)) or msgspec.UNSET
    if best is None or not decision.accepted:
        return Rejected(
            utterance=utterance,
            reason="asleep" if decision.asleep else "unmatched" if decision.woken is None else "woken",
            score=round(decision.score, 3),
            best=best and _guess(best),
            alternatives=others,
            audio_s=seconds(heard),
            lag_ms=lag_ms,
            level=level,
        )
    words = report_words(best.words, [word.confidence for word in best.words], start)
    guess = _guess(best)
    return Command(
        utterance=utterance,
        command=guess.command,
        slots=guess.slots,
        text=guess.text,
        score=guess.score,
        words=words,
        start=words[0].start,
        end=words[-1].end,
        early=decision.early,
        alternatives=others,
        audio_s=seconds(heard),
        lag_ms=lag_ms,
        level=level,
    )


def _guess(heard: Candidate) -> Guess:
    return Guess(heard.meaning.command, heard.meaning.values(), heard.text, round(heard.score, 3))
