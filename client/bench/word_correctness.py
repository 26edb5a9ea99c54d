"""Correctness of the words of a transcript, with their scores and confidences.

A word is correct if the alignment with the fewest errors pairs it with an equal word of the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jiwer
import numpy as np
from numpy.typing import NDArray

from ...streaming.audio.normalize import RunningNormalizer
from ...streaming.config import SessionConfig
from ...streaming.ctc.calibration import Curve, Reliability, fit, level, levels, reliability
from ...streaming.ctc.greedy import DecodedWord, GreedyDecoder, decode
from ...streaming.ctc.priors import TokenPriors
from ...streaming.errors import EngineError
from ...streaming.protocol.events import Word
from ...streaming.requests import CachedStep, CacheHandle, Window
from .steps import StepSetting, plan_steps

if TYPE_CHECKING:
    from ...streaming.ctc.lm import LanguageModel
    from ...streaming.model.encoder import XlsrEncoder

Float32 = NDArray[np.float32]
Arrays = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]  # scores, levels, right

FOLDS = 5


@dataclass(slots=True)
class ScoredWords:
    """Decoded words and whether each is correct; one entry for each word."""

    scores: list[float] = field(default_factory=list[float])  # log-probability
    levels: list[float] = field(default_factory=list[float])  # of the utterance, see `calibration`
    right: list[bool] = field(default_factory=list[bool])
    recordings: list[int] = field(default_factory=list[int])

    def add(
        self, recording: int, reference: Sequence[str], words: Sequence[DecodedWord], levels: Sequence[float]
    ) -> None:
        self.scores += [word.score for word in words]
        self.levels += levels
        self.right += correct_words(reference, [word.text for word in words])
        self.recordings += [recording] * len(words)

    def fit(self) -> Curve:
        return _fit(self._arrays(), np.ones(len(self.right), bool))

    def test(self, curve: Curve) -> Reliability:
        scores, levels, right = self._arrays()
        return reliability(curve(scores, levels), right)

    def cross_validate(self) -> Reliability:
        """Reliability with a curve for each fifth of the recordings, fitted on the other four fifths."""
        arrays = scores, levels, right = self._arrays()
        fold = np.array(self.recordings) % FOLDS
        found = np.zeros(len(right))
        for each in np.unique(fold):
            curve = _fit(arrays, fold != each)
            found[fold == each] = curve(scores[fold == each], levels[fold == each])
        return reliability(found, right)

    def _arrays(self) -> Arrays:
        return np.array(self.scores), np.array(self.levels), np.array(self.right, bool)


@dataclass(slots=True)
class ReportedWords:
    """Words of session events: confidence and correctness of each."""

    confidences: list[float] = field(default_factory=list[float])
    right: list[bool] = field(default_factory=list[bool])

    def add(self, reference: Sequence[str], words: Sequence[Word], before: Sequence[Word] = ()) -> None:
        """Add `words`, which follow `before` in the same recording."""
        self.right += correct_words(reference, [word.word for word in (*before, *words)])[len(before) :]
        self.confidences += [word.confidence for word in words]

    def reliability(self) -> Reliability | None:
        return reliability(np.array(self.confidences), np.array(self.right)) if self.right else None


def _fit(arrays: Arrays, subset: NDArray[np.bool_]) -> Curve:
    scores, levels, right = arrays
    return fit(scores[subset], levels[subset], right[subset])


def correct_words(reference: Sequence[str], words: Sequence[str]) -> list[bool]:
    """Whether each word is correct, by the alignment with the fewest errors."""
    right = [False] * len(words)
    if reference and words:
        for chunk in jiwer.process_words(" ".join(reference), " ".join(words)).alignments[0]:
            if chunk.type == "equal":
                right[chunk.hyp_start_idx : chunk.hyp_end_idx] = [True] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
    return right


@dataclass(slots=True)
class CalibrationData:
    """Words of finals and partials, greedy and searched with `lm`. Each recording is one utterance without a gate."""

    encoder: XlsrEncoder
    lm: LanguageModel | None = None
    final: ScoredWords = field(default_factory=ScoredWords)
    partial: ScoredWords = field(default_factory=ScoredWords)
    beam: ScoredWords = field(default_factory=ScoredWords)
    beam_partial: ScoredWords = field(default_factory=ScoredWords)
    priors: TokenPriors = field(default_factory=TokenPriors)

    def add(self, recording: int, reference: Sequence[str], samples: Float32) -> None:
        """Decode 16 kHz samples, (n,), at least 400 of them."""
        rows = _only(self.encoder.encode([self.encoder.normalize(samples)]))
        self.priors.add(rows)
        words = decode(rows, self.encoder.vocabulary)
        self.final.add(recording, reference, words, [level(words)] * len(words))
        for shown, searched in self._partials(samples):
            self.partial.add(recording, reference, shown, levels(shown))
            if self.lm:
                self.beam_partial.add(recording, reference, searched, levels(searched))
        if self.lm:
            from ...streaming.ctc.beam import decode_beam

            found = decode_beam(rows, self.lm)[0].words
            self.beam.add(recording, reference, found, [level(words)] * len(found))

    def _partials(self, samples: Float32) -> Iterator[tuple[Sequence[DecodedWord], Sequence[DecodedWord]]]:
        """The words of every partial of an utterance, greedy and, with `lm`, searched."""
        from ...streaming.ctc.beam import LIVE_LOOK_BACK, BeamDecoder

        greedy = GreedyDecoder(self.encoder.vocabulary)
        beam = BeamDecoder(self.lm, look_back=LIVE_LOOK_BACK) if self.lm else None
        for committed, volatile in live_rows(self.encoder, samples, SessionConfig()):
            shown: list[list[DecodedWord]] = []
            for decoder in (greedy, beam) if beam else (greedy,):
                decoder.push(committed)
                shown.append([*decoder.words, *decoder.tail(volatile)])
            yield shown[0], shown[-1]


def live_rows(encoder: XlsrEncoder, samples: Float32, config: SessionConfig) -> Iterator[tuple[Float32, Float32]]:
    """The committed and the volatile rows of every live step of an utterance."""
    setting = StepSetting(config.hop_ms, encoder.info.lookahead_of(config), config.left_context_ms)
    windows, _, audio = plan_steps(samples, setting, encoder)
    cache = setting.cache_handle() if "cached" in encoder.info.modes else None
    for window in windows:
        rows = _rows(encoder, audio, window, cache)
        complete = window.commit - window.committed
        yield rows[:complete], rows[complete:]
    if cache:
        encoder.release(cache.number)


def _rows(encoder: XlsrEncoder, audio: RunningNormalizer, window: Window, cache: CacheHandle | None) -> Float32:
    """Log-probabilities of frames `[window.committed, window.newest)`."""
    if cache:
        return _only(encoder.encode_steps([(audio.read(*window.new_samples), CachedStep(cache, window))]))
    return _only(encoder.encode([audio.read(*window.samples)]))[window.committed - window.first :]


def _only(answers: Sequence[Float32 | EngineError]) -> Float32:
    """The answer to the only request, which the encoder raises if it is an error."""
    (rows,) = answers
    assert isinstance(rows, np.ndarray)
    return rows
