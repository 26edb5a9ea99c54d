"""Computes the probability of each language that an utterance may have, after each frame.

By confidence: the utterance is encoded once for each allowed language. In the right language the tokens of the best
path are more probable. Adapters differ in how probable their tokens are for any audio, so each language has an affine
calibration. A few tokens are weak evidence, so some doubtful tokens are added to them.

By a head: an identification model has a class for each of its languages. It pools the frames by their mean, and what
follows is linear, so a running mean of its rows is what it says about the audio so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..ctc.calibration import LanguageScale
from ..ctc.vocabulary import Vocabulary
from ..requests import MULTIPLE

Rows = NDArray[np.float32]
Float64 = NDArray[np.float64]

DOUBTFUL: Final = 3  # tokens added to those of the best path
DOUBT: Final = float(np.log(0.1))  # log-probability of each


class Decider(Protocol):
    @property
    def allowed(self) -> tuple[str, ...]:
        """The languages that an utterance may have."""
        ...

    @property
    def questions(self) -> tuple[str, ...]:
        """The languages of the requests that it needs."""
        ...

    def shares(self, answers: Sequence[Rows | None]) -> Float64:
        """Probabilities of the allowed languages after each frame, (frames, languages).

        `answers` are the rows of the questions, in order; None for a request that failed.
        """
        ...


class ConfidenceDecider:
    """`languages` are those allowed, each with its vocabulary and calibration."""

    def __init__(self, languages: Sequence[tuple[str, Vocabulary, LanguageScale]]) -> None:
        self.allowed = self.questions = tuple(language for language, _, _ in languages)
        self._languages = languages

    def shares(self, answers: Sequence[Rows | None]) -> Float64:
        """See `Decider`; the rows are those of the utterance in each language."""
        length = max((len(rows) for rows in answers if rows is not None), default=0)
        scores = np.full((length, len(self.allowed)), -np.inf)
        for column, (rows, (_, vocabulary, calibration)) in enumerate(zip(answers, self._languages, strict=True)):
            if rows is not None:
                scores[:, column] = calibration(token_levels(rows, vocabulary))
        return softmax(scores)


class HeadDecider:
    """`classes` are those of each allowed language: a language with several is as probable as all of them together."""

    questions = (MULTIPLE,)

    def __init__(self, classes: Mapping[str, tuple[int, ...]]) -> None:
        self.allowed = tuple(classes)
        self._classes = [list(columns) for columns in classes.values()]

    def shares(self, answers: Sequence[Rows | None]) -> Float64:
        """See `Decider`; a row has the log-probability of each class in one frame.

        The mean of log-probabilities differs from that of logits by the same number in all classes, so both give the
        same probabilities.
        """
        (rows,) = answers
        if rows is None:
            return np.zeros((0, len(self.allowed)))
        means = rows.astype(float).cumsum(axis=0) / np.arange(1, len(rows) + 1)[:, None]
        return softmax(np.stack([np.logaddexp.reduce(means[:, each], axis=1) for each in self._classes], axis=1))


def token_levels(rows: Rows, vocabulary: Vocabulary) -> Float64:
    """After each frame, the mean log-probability of the doubtful tokens and those of the best path, (frames,).

    A token counts from the frame at which it ends, with its highest log-probability.
    """
    path = rows.argmax(axis=1)
    best = rows[np.arange(len(rows)), path].astype(float)
    starts = np.flatnonzero(np.concatenate(([True], path[1:] != path[:-1])))
    peaks = np.maximum.reduceat(best, starts)
    ends = np.append(starts[1:], len(rows)) - 1
    tokens: list[int] = path[starts].tolist()
    writes = np.array([not vocabulary.silent[token] for token in tokens])
    total, count = np.zeros(len(rows)), np.zeros(len(rows))
    total[ends], count[ends] = np.where(writes, peaks, 0.0), writes
    return (total.cumsum() + DOUBTFUL * DOUBT) / (count.cumsum() + DOUBTFUL)


def softmax(scores: Float64) -> Float64:
    """Over the last axis; even where all scores are -inf."""
    finite = np.where(np.isfinite(scores).any(axis=-1, keepdims=True), scores, 0.0)
    weights = np.exp(finite - finite.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
