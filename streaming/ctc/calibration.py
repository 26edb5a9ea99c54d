"""Calibrated confidence: about 80 % of words with confidence 0.8 are right.

The raw score of a word is the product of its tokens' probabilities at their best frames. It is not a probability, and
its error depends on the acoustic quality of the utterance. A `Curve` corrects both. It is Platt's logistic map (1999)
of two logits: that of the raw score, with a temperature, and that of the utterance's level, the geometric mean of the
probabilities of the tokens on the greedy path. Each checkpoint has its own curves, in a file in its folder.

After this correction the product does better than mean or minimum, and as well as the best of Tsallis' and Renyi's
entropies (Laptev and Ginsburg, arXiv 2212.08703), which cost a pass over every frame. To measure:
`tests/figures/measure_confidence.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

_PRIOR: Final = 1.0  # weight of the prior, which is the curve that changes nothing
_EPSILON: Final = 1e-6  # least distance of a probability from 0 and 1
_ROUNDS: Final = 50  # of Newton's method, which needs about ten


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """logit(confidence) = logit(product of the tokens' probabilities) / temperature + `level` x logit(level) + offset.

    The level is a logit because logarithms spread low levels, where a search still writes words, too far apart, and
    levels near 1 too little.
    """

    temperature: float = 1.0
    level: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.temperature < float("inf")):
            raise ValueError(f"the temperature is {self.temperature}; it must be positive")

    def __call__(self, scores: Float64, levels: Float64) -> Float64:
        """Confidences of words from their log-probabilities and the levels of their utterances, (words,) each."""
        return _sigmoid(_logit(scores) / self.temperature + self.level * _logit(levels) + self.offset)


class LanguageScale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes levels in different languages comparable: logit of a language = `scale` x level + `offset`.

    The level is the mean log-probability of the tokens (`session.deciders`). The default treats all languages alike:
    tokens that are a third more probable make one language ten times as probable as another.
    """

    scale: float = 8.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.scale < float("inf")):
            raise ValueError(f"the scale is {self.scale}; it must be positive")

    def __call__(self, levels: Float64) -> Float64:
        return self.scale * levels + self.offset


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The curves of one checkpoint: for finals and partials of the greedy decoder and of a beam search.

    Confidences without a curve are None. A beam search without one uses that of the greedy decoder.
    """

    version: int = 1
    final: Curve | None = None
    partial: Curve | None = None
    beam: Curve | None = None
    beam_partial: Curve | None = None
    language: LanguageScale | None = None  # for identification, where one checkpoint has several languages

    def __post_init__(self) -> None:
        if (self.final is None) != (self.partial is None):
            raise ValueError("`final` and `partial` go together")

    def of_final(self, words: Sequence[DecodedWord], greedy: Sequence[DecodedWord] | None = None) -> list[float] | None:
        """Confidences of a greedy final's words. With hotwords, `greedy` are the words of the path without them."""
        return confidences(self.final, words, [level(words if greedy is None else greedy)] * len(words))

    def of_partial(self, words: Sequence[DecodedWord]) -> list[float] | None:
        """Confidences of a greedy partial's words; later words do not change them."""
        return confidences(self.partial, words, levels(words))

    def of_beam_partial(self, words: Sequence[DecodedWord]) -> list[float] | None:
        """Confidences of a beam search's words in a partial; later words do not change them."""
        return confidences(self.beam_partial or self.partial, words, levels(words))

    def of_beam(self, words: Sequence[DecodedWord], greedy: Sequence[DecodedWord]) -> list[float] | None:
        """Confidences of a beam search's words in a final; `greedy` are those of the greedy path."""
        return confidences(self.beam or self.final, words, [level(greedy)] * len(words))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence and share of right words, in bins of equal size (plus or minus one word)."""

    confidence: Float64  # (bins,) mean confidence
    right: Float64  # (bins,) share of right words
    words: Float64  # (bins,)

    @property
    def error(self) -> float:
        """Expected calibration error: the mean difference of the two, weighted by words."""
        return float(np.abs(self.confidence - self.right) @ self.words / self.words.sum())


def level(words: Sequence[DecodedWord]) -> float:
    """Mean log-probability of all tokens of the words; 0 without words."""
    tokens = sum(word.tokens for word in words)
    return sum(word.score for word in words) / tokens if tokens else 0.0


def levels(words: Sequence[DecodedWord]) -> list[float]:
    """For each word, the level of the words up to and including it."""
    scores, tokens = accumulate(word.score for word in words), accumulate(word.tokens for word in words)
    return [score / count for score, count in zip(scores, tokens, strict=True)]


def confidences(curve: Curve | None, words: Sequence[DecodedWord], levels: Sequence[float]) -> list[float] | None:
    if curve is None:
        return None
    return curve(np.array([word.score for word in words], float), np.array(levels, float)).tolist()


def fit(scores: Float64, levels: Float64, right: NDArray[np.bool_]) -> Curve:
    """The maximum-likelihood curve, by Newton's method, with a weak prior for the curve that changes nothing.

    `scores` are log-probabilities of words, `levels` those of their utterances, all (words,). Raises `ModelError` if
    the words are too few, all right, all wrong, or less often right where the score is higher.
    """
    if len(right) < MIN_WORDS or not 0 < right.sum() < len(right):
        raise ModelError(
            f"{len(right)} words, {int(right.sum())} of them right: "
            f"calibration needs at least {MIN_WORDS}, some of them right and some wrong"
        )
    features = np.column_stack((_logit(scores), _logit(levels), np.ones(len(right))))
    prior = np.array([1.0, 0.0, 0.0])
    signed = features * np.where(right, 1, -1)[:, None]

    def loss(weights: Float64) -> float:
        return float(np.logaddexp(0, -signed @ weights).sum() + _PRIOR / 2 * np.square(weights - prior).sum())

    def derivatives(weights: Float64) -> tuple[Float64, Float64]:
        predicted = _sigmoid(features @ weights)
        gradient = features.T @ (predicted - right) + _PRIOR * (weights - prior)
        return gradient, (features.T * (predicted * (1 - predicted))) @ features + _PRIOR * np.eye(3)

    weights = _minimum(prior, loss, derivatives)
    if weights[0] <= 0:
        raise ModelError("in these recordings, words with a higher score are not more often right")
    return Curve(temperature=float(1 / weights[0]), level=float(weights[1]), offset=float(weights[2]))


def fit_languages(levels: Float64, spoken: NDArray[np.intp]) -> list[LanguageScale]:
    """The scales with which the languages that were spoken are most probable, by Newton's method.

    `levels` (examples, languages) are those of audio in every language, `spoken` (examples,) the column of the right
    one. All languages count alike, however many examples they have. A weak prior prefers the default scale. Raises
    `ModelError` for a language that was not spoken, or that is no surer where it is spoken.
    """
    count = levels.shape[1]
    own = np.eye(count)[spoken]  # (examples, languages)
    if not own.any(axis=0).all():
        raise ModelError("each language needs recordings in it")
    shares = len(own) / count / own.sum(axis=0)[spoken]  # of each example; on average 1
    design = np.concatenate((levels, np.ones_like(levels)), axis=1)  # of the scales, and of the offsets
    default = LanguageScale()
    prior: Float64 = np.repeat(np.array([default.scale, default.offset]), count)
    weight: Float64 = _PRIOR / np.repeat(np.array([default.scale**2, 1.0]), count)

    def probabilities(weights: Float64) -> Float64:
        scores = weights[:count] * levels + weights[count:]
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def loss(weights: Float64) -> float:
        right = (probabilities(weights) * own).sum(axis=1)
        penalty = (weight * np.square(weights - prior)).sum() / 2
        return float(penalty - shares @ np.log(np.maximum(right, 1e-300)))

    def derivatives(weights: Float64) -> tuple[Float64, Float64]:
        p = probabilities(weights)
        gradient: Float64 = shares @ (np.tile(p - own, 2) * design) + weight * (weights - prior)
        spread: Float64 = np.einsum("nl,lm->nlm", p, np.eye(count)) - p[:, :, None] * p[:, None, :]
        products: Float64 = np.einsum("n,nl,nlm,nm->lm", shares, design, np.tile(spread, (1, 2, 2)), design)
        return gradient, products + np.diag(weight)

    weights = _minimum(prior, loss, derivatives)
    if (weights[:count] <= 0).any():
        raise ModelError("in these recordings, a language is no surer where it is spoken")
    return [LanguageScale(scale=float(a), offset=float(b)) for a, b in zip(*np.split(weights, 2), strict=True)]


def _minimum(
    weights: Float64, loss: Callable[[Float64], float], derivatives: Callable[[Float64], tuple[Float64, Float64]]
) -> Float64:
    """The minimum of a convex loss, by Newton's method; `derivatives` are the gradient and the Hessian."""
    for _ in range(_ROUNDS):
        gradient, hessian = derivatives(weights)
        step: NDArray[np.floating] = np.linalg.solve(hessian, gradient)
        before = loss(weights)
        while np.abs(step).max() > 1e-9 and loss(weights - step) > before:
            step = step / 2  # a full Newton step may overshoot
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def reliability(confidences: Float64, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Compare confidences with truth; both are (words,), with at least one word."""
    order = np.argsort(confidences, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return Reliability(
        np.array([confidences[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
        np.array([float(len(part)) for part in parts]),
    )


def load_calibration(place: Path) -> Calibration | None:
    """Load a calibration from a file or a checkpoint folder; None if there is none. Raises `ModelError`."""
    path = place if place.is_file() else place / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise ModelError(f"{path} is not a calibration: {error}") from error
    if found.version != 1:
        raise ModelError(f"{path} has version {found.version}; this program reads only version 1")
    return found


def save_calibration(folder: Path, calibration: Calibration) -> Path:
    """Write the calibration into a checkpoint folder; return the path of the file."""
    path = folder / FILE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")
    return path


def _logit(log_probabilities: Float64) -> Float64:
    p = np.clip(np.exp(log_probabilities), _EPSILON, 1 - _EPSILON)
    return np.log(p / (1 - p))


def _sigmoid(x: Float64) -> Float64:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
