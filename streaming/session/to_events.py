"""Decoded words as events: frames become seconds of the session. The outbox adds lag and level."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..commands.decision import Candidate, Decision
from ..ctc.greedy import DecodedWord
from ..frames import STRIDE, seconds
from ..protocol.events import Alternative, Command, Final, Guess, Partial, Rejected, Word
from .decoding import Decoding
from .transcript import Transcript


def report_words(
    words: Sequence[DecodedWord], confidences: Sequence[float], start: int, *, committed: bool = True
) -> tuple[Word, ...]:
    """Words whose frames count from sample `start`."""
    return tuple(
        Word(
            word.text,
            seconds(start + word.start * STRIDE),
            seconds(start + word.end * STRIDE),
            round(confidence, 3),
            committed,
        )
        for word, confidence in zip(words, confidences, strict=True)
    )


def report_partial(words: Sequence[Word], decoding: Decoding, *, utterance: int, end_sample: int) -> Partial:
    """The partial of the audio up to `end_sample`."""
    join = decoding.vocabulary.join
    return Partial(
        utterance=utterance,
        committed=join(word.word for word in words if word.committed),
        volatile=join(word.word for word in words if not word.committed),
        words=tuple(words),
        audio_s=seconds(end_sample),
        language=decoding.language or msgspec.UNSET,
    )


def report_final(transcript: Transcript, decoding: Decoding, *, utterance: int, start: int, end: int) -> Final | None:
    """The final of samples `[start, end)`; None without words."""
    if not transcript.words:
        return None

    def text(words: Sequence[DecodedWord]) -> str:
        return decoding.vocabulary.join(word.text for word in words)

    nbest = tuple(Alternative(text(each.words), round(each.score, 3)) for each in transcript.hypotheses)
    return Final(
        utterance=utterance,
        text=text(transcript.words),
        words=report_words(transcript.words, transcript.confidences, start),
        start=seconds(start),
        end=seconds(end),
        confidence=round(transcript.confidence, 3),
        nbest=nbest or msgspec.UNSET,
        language=decoding.language or msgspec.UNSET,
    )


def report_decision(decision: Decision, *, utterance: int, start: int, end_sample: int) -> Command | Rejected:
    """The decision on an utterance that begins at sample `start`, from its audio up to `end_sample`."""
    best = decision.best
    others = tuple(map(_guess, decision.others)) or msgspec.UNSET
    if best is None or not decision.accepted:
        return Rejected(
            utterance=utterance,
            reason="asleep" if decision.asleep else "unmatched" if decision.woken is None else "woken",
            score=round(decision.score, 3),
            best=best and _guess(best),
            alternatives=others,
            audio_s=seconds(end_sample),
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
        audio_s=seconds(end_sample),
    )


def _guess(candidate: Candidate) -> Guess:
    meaning = candidate.meaning
    return Guess(meaning.command, meaning.values(), candidate.text, round(candidate.score, 3))
