"""Words that a checkpoint hears in recordings, each with whether it was said.

A word is right if the alignment of all words with the reference that has the fewest errors pairs it with an equal one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jiwer
import numpy as np
from numpy.typing import NDArray

from ...streaming.audio.normalize import RunningNormalizer, normalize
from ...streaming.config import SessionConfig
from ...streaming.ctc.calibration import Curve, Reliability, fit, level, levels, reliability
from ...streaming.ctc.greedy import DecodedWord, GreedyDecoder, decode
from ...streaming.protocol.events import Word
from ...streaming.requests import CachedStep, CacheHandle, Window
from .steps import Setting, plan

if TYPE_CHECKING:
    from ...streaming.ctc.lm import LanguageModel
    from ...streaming.model.encoder import XlsrEncoder

Float32 = NDArray[np.float32]

FOLDS = 5


@dataclass(slots=True)
class Judged:
    """One entry for each word."""

    scores: list[float] = field(default_factory=list[float])  # log-probability
    levels: list[float] = field(default_factory=list[float])  # of its utterance, see `calibration`
    right: list[bool] = field(default_factory=list[bool])
    recordings: list[int] = field(default_factory=list[int])

    def add(self, recording: int, said: Sequence[str], words: Sequence[DecodedWord], levels: Sequence[float]) -> None:
        self.scores += [word.score for word in words]
        self.levels += levels
        self.right += judge(said, [word.text for word in words])
        self.recordings += [recording] * len(words)

    def fit(self) -> Curve:
        return _fit(self._arrays(), np.ones(len(self.right), bool))

    def test(self, curve: Curve) -> Reliability:
        scores, levels, right = self._arrays()
        return reliability(curve(scores, levels), right)

    def cross(self) -> Reliability:
        """Each word by a curve that was fitted without its recording, and four fifths of the others."""
        arrays = scores, levels, right = self._arrays()
        fold = np.array(self.recordings) % FOLDS
        found = np.zeros(len(right))
        for each in np.unique(fold):
            curve = _fit(arrays, fold != each)
            found[fold == each] = curve(scores[fold == each], levels[fold == each])
        return reliability(found, right)

    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        return np.array(self.scores), np.array(self.levels), np.array(self.right, bool)


@dataclass(slots=True)
class Told:
    """Words as sessions tell them, with their confidences; one entry for each."""

    confidences: list[float] = field(default_factory=list[float])
    right: list[bool] = field(default_factory=list[bool])

    def add(self, said: Sequence[str], words: Sequence[Word], before: Sequence[Word] = ()) -> None:
        """Words that come after those `before` in the same recording, which are told already."""
        self.right += judge(said, [word.word for word in (*before, *words)])[len(before) :]
        self.confidences += [word.confidence for word in words]

    def reliability(self) -> Reliability | None:
        return reliability(np.array(self.confidences), np.array(self.right)) if self.right else None


def _fit(arrays: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]], of: NDArray[np.bool_]) -> Curve:
    scores, levels, right = arrays
    return fit(scores[of], levels[of], right[of])


def judge(said: Sequence[str], heard: Sequence[str]) -> list[bool]:
    """Which of the words heard were said, by the alignment with the fewest errors."""
    right = [False] * len(heard)
    if said and heard:
        for chunk in jiwer.process_words(" ".join(said), " ".join(heard)).alignments[0]:
            if chunk.type == "equal":
                right[chunk.hyp_start_idx : chunk.hyp_end_idx] = [True] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
    return right


@dataclass(slots=True)
class Ear:
    """Hears recordings as finals and as partials; each is one utterance, without a gate."""

    encoder: XlsrEncoder
    lm: LanguageModel | None = None
    final: Judged = field(default_factory=Judged)
    partial: Judged = field(default_factory=Judged)
    beam: Judged = field(default_factory=Judged)

    def hear(self, recording: int, said: Sequence[str], samples: Float32) -> None:
        """Judge what is heard in 16 kHz samples, (n,) with n of at least 400."""
        (rows,) = self.encoder.encode([normalize(samples) if self.encoder.normalized else samples])
        words = decode(rows, self.encoder.vocabulary)
        self.final.add(recording, said, words, [level(words)] * len(words))
        for shown in partials(self.encoder, samples, SessionConfig()):
            self.partial.add(recording, said, shown, levels(shown))
        if self.lm:
            from ...streaming.ctc.beam import decode_beam

            found = decode_beam(rows, self.lm)[0].words
            self.beam.add(recording, said, found, [level(words)] * len(found))


def partials(encoder: XlsrEncoder, samples: Float32, config: SessionConfig) -> Iterator[list[DecodedWord]]:
    """The words of every partial of an utterance: complete ones, then volatile ones."""
    setting = Setting(config.hop_ms, config.lookahead_ms, config.left_context_ms)
    windows, _, audio = plan(samples, setting, normalized=encoder.normalized)
    memory = setting.memory() if "cached" in encoder.info.modes else None
    decoder = GreedyDecoder(encoder.vocabulary)
    for window in windows:
        rows = _rows(encoder, audio, window, memory)
        complete = window.commit - window.committed
        decoder.push(rows[:complete])
        yield [*decoder.words, *decoder.tail(rows[complete:])]
    if memory:
        encoder.release(memory.number)


def _rows(encoder: XlsrEncoder, audio: RunningNormalizer, window: Window, memory: CacheHandle | None) -> Float32:
    """Log-probabilities of frames `[window.committed, window.newest)`."""
    if memory:
        return encoder.encode_steps([(audio.read(*window.new_samples), CachedStep(memory, window))])[0]
    return encoder.encode([audio.read(*window.samples)])[0][window.committed - window.first :]
