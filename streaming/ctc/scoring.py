"""Weights of a search, and the score of each word."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, log

import numpy as np
from numpy.typing import NDArray

from ..errors import LanguageModelError
from .ngram import Contexts, Ints, Ngram, Scores


@dataclass(frozen=True, slots=True)
class Weights:
    """Score of a hypothesis: log-probability of its path + `lm` x log10 of the n-gram + `word` for each word.

    The other numbers prune. Raises `LanguageModelError` for values out of range.
    """

    lm: float = 1.6
    word: float = 1.5
    beam: int = 100  # hypotheses kept
    tokens: int = 16  # tokens tried at each frame
    threshold: float = 15.0  # nats below the best hypothesis
    token_threshold: float = 8.0  # nats below the best token of the frame
    sure_blank: float = 0.98  # probability of the blank above which a frame extends no hypothesis
    unknown: float = 0.9  # least confidence of a greedy word outside the lexicon that may enter the search

    def narrow(self) -> Weights:
        """Cheaper weights for partials; the final corrects most of the additional errors."""
        return replace(
            self,
            beam=min(self.beam, 50),
            threshold=min(self.threshold, 12.0),
            token_threshold=min(self.token_threshold, 7.0),
        )

    def tried(self, rows: NDArray[np.float32], blank: int, offsets: NDArray[np.float32] | None) -> NDArray[np.bool_]:
        """The tokens that may extend a hypothesis at each frame, of log-probabilities (frames, vocabulary). `offsets`,
        (vocabulary,), are added to them."""
        sure = rows[:, blank] > log(self.sure_blank)
        if offsets is not None:
            rows = rows + offsets
        floor = rows.max(axis=1, keepdims=True) - np.float32(self.token_threshold)
        if self.tokens < rows.shape[1]:
            floor = np.maximum(floor, np.partition(rows, -self.tokens, axis=1)[:, [-self.tokens]])
        tried: NDArray[np.bool_] = np.greater_equal(rows, floor)
        tried[:, blank] = False
        tried[sure] = False
        return tried

    def __post_init__(self) -> None:
        positive = min(self.threshold, self.token_threshold, self.sure_blank) > 0 and isfinite(self.threshold)
        if not (0 <= self.lm <= 100 and abs(self.word) <= 100 and positive):
            raise LanguageModelError(
                "the LM weight must be 0 to 100, the word score -100 to 100, and the thresholds positive"
            )
        if not (1 <= self.beam <= 10_000 and self.tokens >= 1):
            raise LanguageModelError("a beam must hold 1 to 10000 hypotheses and try at least 1 token")


class WordScores:
    """Scores of words after contexts. A search refers to contexts by number."""

    def __init__(self, ngram: Ngram, weights: Weights, *, merged: bool) -> None:
        self._ngram = ngram
        self._weights = weights
        self._merged = merged
        self._contexts = ngram.start.take(np.zeros(1, np.int64))  # by number, with room for more
        self._numbers: dict[object, int] = {ngram.start.words.tobytes(): 0}

    def fork(self) -> WordScores:
        """A copy that numbers further contexts independently."""
        fork = WordScores.__new__(WordScores)
        fork.__dict__.update(self.__dict__)
        fork._contexts = self._contexts.take(np.arange(len(self._numbers)))
        fork._numbers = {**self._numbers}
        return fork

    def score(self, contexts: Ints, labels: Ints, nodes: Ints) -> tuple[Scores, Ints]:
        """(n,) scores that words add, each after its context, and (n,) numbers of the contexts after them.

        `nodes` are the words' ends in the trie. Words that the n-gram lacks share a label, but no node.
        """
        language, after = self._look_up(contexts, labels)
        if self._merged:
            keys: list[object] = [row.tobytes() for row in after.words]
        else:
            keys = list(zip(contexts.tolist(), nodes.tolist(), strict=True))
        numbers = [self._numbers.setdefault(key, len(self._numbers)) for key in keys]
        self._keep(numbers, after)
        return self._weights.lm * language + self._weights.word, np.array(numbers)

    def ends(self, contexts: Ints) -> Scores:
        """(n,) scores that the end of the sentence adds after contexts."""
        return self._weights.lm * self._look_up(contexts, np.full(len(contexts), self._ngram.end))[0]

    def _look_up(self, contexts: Ints, labels: Ints) -> tuple[Scores, Contexts]:
        return self._ngram.score(self._contexts.take(contexts), labels.astype(np.int64))

    def _keep(self, numbers: list[int], rows: Contexts) -> None:
        """Store the rows of these contexts."""
        words, backoffs = self._contexts
        if (lacking := len(self._numbers) - len(words)) > 0:
            room = ((0, max(lacking, len(words))), (0, 0))
            self._contexts = Contexts(np.pad(words, room), np.pad(backoffs, room))
        words, backoffs = self._contexts
        words[numbers], backoffs[numbers] = rows
