"""A word n-gram with back-off: log10 probabilities of words after contexts, for many pairs of them at once.

Look-up goes from the last word backwards: `w`, then `v w`, then `u v w`. One walk finds the longest n-gram that the
model has and the back-off weights of the next contexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BEGIN, END = "<s>", "</s>"
UNKNOWN: Final = 0  # number of every word that the model does not know
UNKNOWN_WORDS: Final = ("<unk>", "<UNK>")
SPECIAL: Final = frozenset((BEGIN, END, *UNKNOWN_WORDS))

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]
Ints = NDArray[np.signedinteger[Any]]
Nodes = NDArray[Any]


class Contexts(NamedTuple):
    """Contexts as rows; equal words give equal scores. Columns that a context does not use have no word and 0."""

    words: Ints  # (contexts, order - 1), the last words that can change a score, newest first; `Ngram.none`: no word
    backoffs: Scores  # (contexts, order - 1), log10 back-off weights of the newest word, the newest two, ...

    def take(self, rows: Ints) -> Contexts:
        """A copy of some rows."""
        return Contexts(self.words[rows], self.backoffs[rows])


class NgramTable(Protocol):
    """All n-grams of one order from 2 on, at places of the table."""

    def find(self, nodes: Nodes, words: Ints) -> Ints:
        """(n,) places of the n-grams `word`, ..., where `node` is the n-gram without its first word; -1: not there."""
        ...

    def nodes(self, places: Ints) -> Nodes:
        """(n,) nodes of the n-grams at these places."""
        ...

    def scores(self, places: Ints) -> Scores:
        """(n,) log10; NaN: the model has only longer n-grams that end in it."""
        ...

    def backoffs(self, places: Ints) -> Scores:
        """(n,) log10; not of the highest order."""
        ...


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers of a table; with a codebook, indices into it."""

    data: NDArray[Any]
    codebook: Floats | None = None

    def __getitem__(self, places: Ints) -> Scores:
        found = self.data[places]
        return (found if self.codebook is None else self.codebook[found]).astype(np.float64)


class SortedTable:
    """Entries sorted by node and word, where `size` is more than any word. The node of an entry is its place."""

    def __init__(self, keys: Ints, size: int, scores: Values, backoffs: Values | None) -> None:
        self._keys = np.append(keys, np.iinfo(np.int64).max)  # node * size + word
        self._size = size
        self._scores, self._backoffs = scores, backoffs

    def find(self, nodes: Nodes, words: Ints) -> Ints:
        wanted = nodes * self._size + words
        places = np.searchsorted(self._keys, wanted)
        places[self._keys[places] != wanted] = -1
        return places

    def nodes(self, places: Ints) -> Nodes:
        return places

    def scores(self, places: Ints) -> Scores:
        return self._scores[places]

    def backoffs(self, places: Ints) -> Scores:
        assert self._backoffs is not None
        return self._backoffs[places]


class Ngram:
    """`scores` and `backoffs`, (words,), belong to single words; `tables` hold the orders from 2 on."""

    def __init__(self, words: list[str], scores: Floats, backoffs: Floats, tables: Sequence[NgramTable]) -> None:
        self.words = words  # by number
        self.numbers = {word: number for number, word in enumerate(words)}
        for word in UNKNOWN_WORDS:
            self.numbers[word] = UNKNOWN
        self.scores = scores
        self.order = len(tables) + 1
        self.none = len(words)
        self._tables = tables
        self._scores, self._backoffs = Values(scores), Values(backoffs)
        self._columns = np.arange(self.order - 1)
        self.nothing = Contexts(np.full((1, self.order - 1), self.none), np.zeros((1, self.order - 1)))
        self.start = self.score(self.nothing, np.array([self.numbers.get(BEGIN, UNKNOWN)]))[1]
        self.end = self.numbers.get(END, UNKNOWN)

    def score(self, contexts: Contexts, words: Ints) -> tuple[Scores, Contexts]:
        """(n,) log10 probabilities of words, (n,) given by number, each after its context; and the next contexts."""
        scores, matched = self._scores[words], np.zeros(len(words), np.int64)
        after = np.concatenate((words[:, None], contexts.words[:, :-1]), 1)[:, : self.order - 1]
        backoffs = np.zeros(after.shape)
        backoffs[:, :1] = self._backoffs[words][:, None]
        known = np.ones(len(words), np.int64)  # columns of the next context
        rows, nodes = np.arange(len(words)), words
        for length, table in enumerate(self._tables, 1):
            places = table.find(nodes, contexts.words[rows, length - 1])
            there = places >= 0
            rows, places = rows[there], places[there]
            if not len(rows):
                break
            found = table.scores(places)
            scored = ~np.isnan(found)
            scores[rows[scored]], matched[rows[scored]] = found[scored], length
            if length < self.order - 1:
                backoffs[rows, length], known[rows] = table.backoffs(places), length + 1
            nodes = table.nodes(places)
        scores += np.where(self._columns >= matched[:, None], contexts.backoffs, 0).sum(1)
        unused = (backoffs == 0) & np.signbit(backoffs)  # nothing follows this context
        for length in range(self.order - 1, 0, -1):
            known -= unused[:, length - 1] & (known == length)
        beyond = self._columns >= known[:, None]
        after[beyond], backoffs[beyond] = self.none, 0
        return scores, Contexts(after, backoffs)
