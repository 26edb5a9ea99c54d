"""Confidence that means what it says: of the words with confidence 0.8, four in five are right.

The raw measure of a word is the product of its tokens' probabilities at their best frames. It is not a probability, and
how far off it is depends on how well the utterance as a whole is heard. A `Curve` corrects both: Platt's logistic map
(1999) of the measure, with a temperature, and of the utterance's level, the geometric mean of the probabilities of its
tokens on the greedy path, both in logits. It is fitted for a checkpoint and kept beside it. So corrected, the product
does better than mean or minimum and as well as the best of Tsallis' and Renyi's entropies (Laptev and Ginsburg, arXiv
2212.08703), which would cost a pass over every frame: see `tests/figures/measure_confidence.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .greedy import DecodedWord

Float64 = NDArray[np.float64]

FILE: Final = "calibration.json"
MIN_WORDS: Final = 50  # to fit a curve
BINS: Final = 15

_PRIOR: Final = 1.0  # weight of the prior at what no calibration would do, in words
_SURE: Final = 1e-6  # probabilities are told from 0 and 1 by at least this
_ROUNDS: Final = 50  # of Newton's method, which needs about ten


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """logit(confidence) = logit(product of the tokens' probabilities) / temperature + `level` x logit(level) + offset.

    The level in logits, not in logarithms, because a search writes words also where little is heard: there logarithms
    tell too much apart, and near certainty too little.
    """

    temperature: float = 1.0
    level: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.temperature < float("inf")):
            raise ValueError(f"a temperature of {self.temperature}; it must be positive")

    def __call__(self, scores: Float64, levels: Float64) -> Float64:
        """Confidences of words, from their log-probabilities and the levels of their utterances."""
        return _sigmoid(_logit(scores) / self.temperature + self.level * _logit(levels) + self.offset)


class LanguageScale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How sure a language's own tokens make it, against other languages: logit = `scale` x level + `offset`.

    The level is the mean log-probability of the tokens (`session.deciders`). The default treats all languages alike:
    tokens that are a third more probable make one language ten times as probable as another.
    """

    scale: float = 8.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.scale < float("inf")):
            raise ValueError(f"a scale of {self.scale}; it must be positive")

    def __call__(self, levels: Float64) -> Float64:
        return self.scale * levels + self.offset


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The curves of one checkpoint: for words of finals and of partials, greedy and of a beam search."""

    version: int = 1
    final: Curve
    partial: Curve
    beam: Curve | None = None
    beam_partial: Curve | None = None
    language: LanguageScale | None = None  # for identification, where one checkpoint has several languages

    def of_final(self, words: Sequence[DecodedWord], greedy: Sequence[DecodedWord] | None = None) -> list[float]:
        """Confidences of a greedy final's words; with hotwords in it, given those of the greedy path without."""
        return confidences(self.final, words, [level(words if greedy is None else greedy)] * len(words))

    def of_partial(self, words: Sequence[DecodedWord]) -> list[float]:
        """Confidences of a greedy partial's words. What comes after a word does not change its confidence."""
        return confidences(self.partial, words, levels(words))

    def of_beam_partial(self, words: Sequence[DecodedWord]) -> list[float]:
        """Confidences of words of a beam search in a partial; later words do not change them."""
        return confidences(self.beam_partial or self.partial, words, levels(words))

    def of_beam(self, words: Sequence[DecodedWord], greedy: Sequence[DecodedWord]) -> list[float]:
        """Confidences of words of a beam search, given those of the greedy path over the same frames."""
        return confidences(self.beam or self.final, words, [level(greedy)] * len(words))


@dataclass(frozen=True, slots=True)
class Reliability:
    """How confidences and truth go together, in bins of equally many words (at most one more or less)."""

    confidence: Float64  # (bins,) mean confidence
    right: Float64  # (bins,) share of right words
    words: Float64  # (bins,)

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of the two, weighted by words."""
        return float(np.abs(self.confidence - self.right) @ self.words / self.words.sum())


def level(words: Sequence[DecodedWord]) -> float:
    """Mean log-probability of all tokens of the words, that of their geometric mean; 0 without words."""
    tokens = sum(word.tokens for word in words)
    return sum(word.score for word in words) / tokens if tokens else 0.0


def levels(words: Sequence[DecodedWord]) -> list[float]:
    """For each word the level of the words up to it."""
    scores, tokens = accumulate(word.score for word in words), accumulate(word.tokens for word in words)
    return [score / count for score, count in zip(scores, tokens, strict=True)]


def confidences(curve: Curve, words: Sequence[DecodedWord], levels: Sequence[float]) -> list[float]:
    return curve(np.array([word.score for word in words], float), np.array(levels, float)).tolist()


def fit(scores: Float64, levels: Float64, right: NDArray[np.bool_]) -> Curve:
    """The curve that makes the truth most likely, by Newton's method, with a weak prior for changing nothing.

    `scores` are log-probabilities of words, `levels` those of their utterances, all (words,). Raises `ModelError` where
    they say too little.
    """
    if len(right) < MIN_WORDS or not 0 < right.sum() < len(right):
        raise ModelError(
            f"{len(right)} words, {int(right.sum())} of them right: "
            f"at least {MIN_WORDS} are needed to calibrate, some of them right and some wrong"
        )
    features = np.column_stack((_logit(scores), _logit(levels), np.ones(len(right))))
    prior = np.array([1.0, 0.0, 0.0])
    signed = features * np.where(right, 1, -1)[:, None]

    def unlikely(weights: NDArray[np.floating]) -> float:
        return float(np.logaddexp(0, -signed @ weights).sum() + _PRIOR / 2 * np.square(weights - prior).sum())

    weights = prior
    for _ in range(_ROUNDS):
        likely = _sigmoid(features @ weights)
        slope = features.T @ (likely - right) + _PRIOR * (weights - prior)
        bend = (features.T * (likely * (1 - likely))) @ features + _PRIOR * np.eye(3)
        step = np.linalg.solve(bend, slope)
        before = unlikely(weights)
        while np.abs(step).max() > 1e-9 and unlikely(weights - step) > before:
            step = step / 2  # where the map is steep, a whole step goes too far
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    if weights[0] <= 0:
        raise ModelError("in these recordings words are no more often right where the model is more certain")
    return Curve(temperature=float(1 / weights[0]), level=float(weights[1]), offset=float(weights[2]))


def reliability(confidences: Float64, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Both are (words,), with at least one word."""
    order = np.argsort(confidences, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return Reliability(
        np.array([confidences[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
        np.array([float(len(part)) for part in parts]),
    )


def load_calibration(place: Path) -> Calibration | None:
    """That of a file, or of a folder such as a checkpoint's, if there is one. Raises `ModelError`."""
    path = place if place.is_file() else place / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise ModelError(f"{path} is not a calibration: {error}") from error
    if found.version != 1:
        raise ModelError(f"{path} has version {found.version}; only version 1 is known")
    return found


def save_calibration(folder: Path, calibration: Calibration) -> Path:
    """Write it beside the checkpoint; where it lies."""
    path = folder / FILE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")
    return path


def _logit(log_probabilities: Float64) -> Float64:
    p = np.clip(np.exp(log_probabilities), _SURE, 1 - _SURE)
    return np.log(p / (1 - p))


def _sigmoid(x: Float64) -> Float64:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
