"""Computes the probability of each language that an utterance may have, after each frame.

The utterance is encoded once for each allowed language. In the right language the tokens of the best path are more
probable. Adapters differ in how probable their tokens are for any audio, so each language has an affine calibration.
A few tokens are weak evidence, so some doubtful tokens are added to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..ctc.calibration import LanguageScale
from ..ctc.vocabulary import Vocabulary

Rows = NDArray[np.float32]
Float64 = NDArray[np.float64]

DOUBTFUL: Final = 3  # tokens added to those of the best path
DOUBT: Final = float(np.log(0.1))  # log-probability of each


class ConfidenceDecider:
    """`languages` are those allowed, each with its vocabulary and calibration."""

    def __init__(self, languages: Sequence[tuple[str, Vocabulary, LanguageScale]]) -> None:
        self.allowed = tuple(language for language, _, _ in languages)
        self._languages = languages

    def shares(self, answers: Sequence[Rows | None]) -> Float64:
        """Probabilities of the allowed languages after each frame, (frames, languages).

        `answers` are the rows of the utterance in each language, in order; None for a request that failed.
        """
        length = max((len(rows) for rows in answers if rows is not None), default=0)
        scores = np.full((length, len(self.allowed)), -np.inf)
        for column, (rows, (_, vocabulary, calibration)) in enumerate(zip(answers, self._languages, strict=True)):
            if rows is not None:
                scores[:, column] = calibration(token_levels(rows, vocabulary))
        return softmax(scores)


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
    writes = np.array([bool(vocabulary.texts[token].strip()) for token in tokens])
    total, count = np.zeros(len(rows)), np.zeros(len(rows))
    total[ends], count[ends] = np.where(writes, peaks, 0.0), writes
    return (total.cumsum() + DOUBTFUL * DOUBT) / (count.cumsum() + DOUBTFUL)


def softmax(scores: Float64) -> Float64:
    """Over the last axis; even where all scores are -inf."""
    finite = np.where(np.isfinite(scores).any(axis=-1, keepdims=True), scores, 0.0)
    weights = np.exp(finite - finite.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
