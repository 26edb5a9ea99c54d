"""A word n-gram with back-off: log10 probabilities of words after contexts.

Look-up goes from the last word backwards: `w`, then `v w`, then `u v w`. One walk finds the longest n-gram that the
model has and the back-off weights of the next contexts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign, isnan
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BEGIN, END = "<s>", "</s>"
UNKNOWN: Final = 0  # number of every word that the model does not know
UNKNOWN_WORDS: Final = ("<unk>", "<UNK>")
SPECIAL: Final = frozenset((BEGIN, END, *UNKNOWN_WORDS))

Floats = NDArray[np.float32]


class Context(NamedTuple):
    """The last words that can change a score, newest first; equal contexts give equal scores."""

    words: tuple[int, ...]
    backoffs: tuple[float, ...]  # log10 back-off weights of the newest word, the newest two, ...


class Entry(NamedTuple):
    """One n-gram of the model."""

    node: int
    score: float  # log10; NaN: the model has only longer n-grams that end in it
    backoff: float


class NgramTable(Protocol):
    """All n-grams of one order from 2 on."""

    def find(self, node: int, word: int) -> Entry | None:
        """The n-gram `word`, ..., where `node` is the n-gram without its first word."""
        ...


@dataclass(slots=True)
class SortedTable:
    """Entries grouped by node and sorted by word. With a codebook the scores are indices into it."""

    first: Sequence[int]  # index of each node's first entry, and of the end
    words: Sequence[int]
    scores: Sequence[float] | Sequence[int]
    backoffs: Sequence[float] | Sequence[int] | None  # None for the highest order
    codebook: Sequence[float] | None = None
    backoff_codebook: Sequence[float] | None = None

    def find(self, node: int, word: int) -> Entry | None:
        end = self.first[node + 1]
        at = bisect_left(self.words, word, self.first[node], end)
        if at == end or self.words[at] != word:
            return None
        score = self.scores[at]
        if self.codebook is not None:
            score = self.codebook[int(score)]
        backoff = 0.0 if self.backoffs is None else self.backoffs[at]
        if self.backoff_codebook is not None:
            backoff = self.backoff_codebook[int(backoff)]
        return Entry(at, score, backoff)


class Ngram:
    """`scores` and `backoffs`, (words,), belong to single words; `tables` hold the orders from 2 on."""

    def __init__(self, words: list[str], scores: Floats, backoffs: Floats, tables: Sequence[NgramTable]) -> None:
        self.words = words  # by number
        self.numbers = {word: number for number, word in enumerate(words)}
        for word in UNKNOWN_WORDS:
            self.numbers[word] = UNKNOWN
        self.scores = scores
        self.order = len(tables) + 1
        self._tables = tables
        self._scores: list[float] = scores.tolist()
        self._backoffs: list[float] = backoffs.tolist()
        self.nothing = Context((), ())
        self.start = self.score(self.nothing, self.numbers.get(BEGIN, UNKNOWN))[1]
        self.end = self.numbers.get(END, UNKNOWN)

    def score(self, context: Context, word: int) -> tuple[float, Context]:
        """log10 probability of a word, given by number, after a context; and the next context."""
        score, matched, node = self._scores[word], 0, word
        known = [self._backoffs[word]]
        for length, (before, table) in enumerate(zip(context.words, self._tables, strict=False), 1):
            if (entry := table.find(node, before)) is None:
                break
            node = entry.node
            known.append(entry.backoff)
            if not isnan(entry.score):
                score, matched = entry.score, length
        del known[self.order - 1 :]
        while known and known[-1] == 0 and copysign(1, known[-1]) < 0:  # nothing follows this context
            known.pop()
        words = (word, *context.words)[: len(known)]
        return score + sum(context.backoffs[matched:]), Context(words, tuple(known))
