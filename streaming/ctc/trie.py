"""The spellings of a lexicon as a prefix tree of tokens, in arrays.

Node 0 is the start of a word. The children of a node are adjacent, sorted by token. `best` is the highest score of any
word below a node: the language-model look-ahead of a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from .lexicon import Spelling

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

_SPARE: Final = 1_000  # nodes
_NONE: Final[Ints] = np.zeros(0, np.int32)


@dataclass(slots=True)
class _Room:
    """Arrays with spare room, shared by a trie and the tries that `with_words` makes of it."""

    used: int  # nodes of the largest of these tries


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """The lexicon as a tree of spellings, in arrays over its nodes."""

    token: Ints  # (nodes,) last token of the node's path
    first: Ints  # (nodes,) first child
    count: Ints  # (nodes,) number of children
    label: Ints  # (nodes,) number of the word that ends here; -1: none
    best: Floats  # (nodes,) highest score of a word here or below
    step: Floats  # (nodes,) `best` minus the parent's; a root counts as 0
    size: int  # nodes; the arrays may have room for more
    roots: Ints = field(default_factory=lambda: _NONE)  # (tries,) nodes besides 0 at which words begin
    room: _Room = field(default_factory=lambda: _Room(0))

    @classmethod
    def build(cls, spellings: Sequence[Spelling], labels: Ints, scores: Floats, root: int) -> Self:
        """Build a trie. `labels` and `scores`, (words,), belong to the spellings; `root` is the token of node 0.

        Words with the same spelling end in separate nodes.
        """
        if len(spellings) == 1:
            (spelling,) = spellings
            nodes = np.arange(len(spelling) + 1, dtype=np.int32)
            last = nodes == len(spelling)
            best = np.full(len(nodes), scores[0], np.float32)
            return cls(
                np.array([root, *spelling], np.int32),
                nodes + 1,
                np.where(last, 0, 1).astype(np.int32),
                np.where(last, labels[0], -1).astype(np.int32),
                best,
                np.where(nodes == 1, best, 0).astype(np.float32),
                len(nodes),
            )
        lengths = np.array([len(spelling) for spelling in spellings], np.int32)
        depth = int(lengths.max(initial=0))
        tokens = np.full((len(spellings), depth), -1, np.int32)
        tokens[np.arange(depth) < lengths[:, None]] = [token for spelling in spellings for token in spelling]
        order = np.lexsort((labels, *tokens.T[::-1])) if depth else np.arange(len(spellings))
        tokens, lengths, labels, scores = tokens[order], lengths[order], labels[order], scores[order]
        ends = lengths[:, None] == np.arange(1, depth + 1)
        node = np.zeros(len(spellings), np.int32)  # each word's node at this level
        parted = np.zeros(len(spellings), bool)  # whether its path differs from that of the previous word
        levels: list[tuple[Ints, Ints]] = []
        size = 1
        for level in range(depth):
            column = tokens[:, level]
            parted[1:] |= (column[1:] != column[:-1]) | (ends[1:, level] & ends[:-1, level])
            parted[:1] = True
            alive = lengths > level
            begins = parted & alive
            levels.append((column[begins], node[begins]))
            node = np.where(alive, size + np.cumsum(begins, dtype=np.int32) - 1, node)
            size += int(begins.sum())
        token = np.concatenate([np.array([root], np.int32), *(token for token, _ in levels)])
        parent = np.concatenate([np.array([-1], np.int32), *(parent for _, parent in levels)])
        count = np.bincount(parent[1:], minlength=size).astype(np.int32)
        label = np.full(size, -1, np.int32)
        label[node] = labels
        best = np.full(size, -np.inf, np.float32)
        best[node] = scores
        end = size
        for level_token, level_parent in reversed(levels):
            start = end - len(level_token)
            np.maximum.at(best, level_parent, best[start:end])
            end = start
        step = best - np.where(parent > 0, best[parent], 0)
        first = (1 + np.cumsum(count) - count).astype(np.int32)
        return cls(token, first, count, label, best, step, size)

    def __len__(self) -> int:
        return self.size

    def find(self, spelling: Spelling) -> list[int]:
        """Numbers of the words with this spelling."""
        nodes = [0, *self.roots.tolist()]
        for token in spelling:
            children = [
                child for node in nodes for child in range(self.first[node], self.first[node] + self.count[node])
            ]
            nodes = [child for child in children if self.token[child] == token]
        return [int(self.label[node]) for node in nodes if self.label[node] >= 0]

    def children(
        self, nodes: NDArray[np.signedinteger[Any]], allowed: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], Ints]:
        """Children with an allowed token: index into `nodes`, child, its token; (children,) each."""
        place = np.arange(len(nodes))
        if len(self.roots) and len(starts := (nodes == 0).nonzero()[0]):
            nodes = np.concatenate((nodes, self.roots.repeat(len(starts))))
            place = np.concatenate((place, *[starts] * len(self.roots)))
        count = self.count[nodes]
        ends = count.cumsum()
        source = place.repeat(count)
        child = np.arange(len(source)) + (self.first[nodes] - (ends - count)).repeat(count)
        token = self.token[child]
        kept = allowed[token].nonzero()[0]
        return source[kept], child[kept], token[kept]

    def with_words(self, other: Trie) -> Trie:
        """A trie with the words of both. They share no nodes.

        The first call copies the arrays with spare room. Later calls append to them, unless another trie uses the room.
        """
        size = self.size + other.size
        grown, room = self, self.room
        if room.used != self.size or size > len(self.token):
            grown, room = self._copy(size + _SPARE), _Room(size)
        part = slice(self.size, size)
        grown.token[part], grown.first[part] = other.token[: other.size], other.first[: other.size] + self.size
        grown.count[part], grown.label[part] = other.count[: other.size], other.label[: other.size]
        grown.best[part], grown.step[part] = other.best[: other.size], other.step[: other.size]
        room.used = size
        roots = np.concatenate((self.roots, [self.size], other.roots + self.size)).astype(np.int32)
        return replace(grown, size=size, roots=roots, room=room)

    def _copy(self, room: int) -> Trie:
        """A copy with arrays for `room` nodes."""

        def copied(array: NDArray[Any]) -> NDArray[Any]:
            copy = np.empty(room, array.dtype)
            copy[: self.size] = array[: self.size]
            return copy

        arrays = (copied(each) for each in (self.token, self.first, self.count, self.label, self.best, self.step))
        token, first, count, label, best, step = arrays
        return Trie(token, first, count, label, best, step, self.size)

    def reclaim(self) -> None:
        """Free the room of all words that `with_words` added to this trie; tries with them must no longer be used."""
        self.room.used = self.size
