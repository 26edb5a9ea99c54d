"""The words of an utterance with their confidences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..audio.pauses import PauseEvidence
from ..commands.decision import Decision
from ..ctc.beam import Hypothesis
from ..ctc.greedy import DecodedWord, confidence


@dataclass(frozen=True, slots=True)
class Transcript:
    """Confidences are 0..1."""

    words: tuple[DecodedWord, ...]
    confidences: tuple[float, ...]  # of each word
    confidence: float  # of the whole
    hypotheses: tuple[Hypothesis, ...] = ()  # best first, if the session asks for them
    decision: Decision | None = None  # on commands, if the session has a grammar
    pause: PauseEvidence | None = None  # on the pause at its end, if the pass looks for it


def make_transcript(
    words: Sequence[DecodedWord], calibrated: Sequence[float] | None, hypotheses: Sequence[Hypothesis] = ()
) -> Transcript:
    """`calibrated` holds a confidence for each word, or is None without a calibration.

    The transcript's confidence is the mean of calibrated ones, else the geometric mean over all tokens.
    """
    if calibrated is None:
        raw = tuple(word.confidence for word in words)
        return Transcript(tuple(words), raw, confidence(words), tuple(hypotheses))
    mean = sum(calibrated) / len(calibrated) if calibrated else 0.0
    return Transcript(tuple(words), tuple(calibrated), mean, tuple(hypotheses))
