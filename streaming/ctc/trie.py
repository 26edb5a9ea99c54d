"""The spellings of a lexicon as a tree of tokens, in arrays.

Node 0 is the start of a word. The children of a node lie one after the other, sorted by token. `best` is the highest
score of any word below a node, so a search can take the language model into account before a word is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .lexicon import Spelling

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    token: Ints  # (nodes,) that leads to the node
    first: Ints  # (nodes,) its first child
    count: Ints  # (nodes,) of its children
    label: Ints  # (nodes,) the word that is spelled so; -1: none
    best: Floats  # (nodes,)
    step: Floats  # (nodes,) `best`, less that of the node before; the start of a word counts as 0
    roots: tuple[int, ...] = (0,)  # where words begin

    @classmethod
    def build(cls, spellings: Sequence[Spelling], labels: Ints, scores: Floats, root: int) -> Self:
        """`labels` and `scores`, (words,), are those of the spelled words; `root` is the token of node 0. Words that
        are spelled alike end in nodes of their own."""
        lengths = np.array([len(spelling) for spelling in spellings], np.int32)
        depth = int(lengths.max(initial=0))
        tokens = np.full((len(spellings), depth), -1, np.int32)
        tokens[np.arange(depth) < lengths[:, None]] = [token for spelling in spellings for token in spelling]
        order = np.lexsort((labels, *tokens.T[::-1])) if depth else np.arange(len(spellings))
        tokens, lengths, labels, scores = tokens[order], lengths[order], labels[order], scores[order]
        ends = lengths[:, None] == np.arange(1, depth + 1)
        node = np.zeros(len(spellings), np.int32)  # that each word has reached
        fresh = np.zeros(len(spellings), bool)  # whether it parts there from the word before
        levels: list[tuple[Ints, Ints]] = []
        size = 1
        for level in range(depth):
            column = tokens[:, level]
            fresh[1:] |= (column[1:] != column[:-1]) | (ends[1:, level] & ends[:-1, level])
            fresh[:1] = True
            alive = lengths > level
            begins = fresh & alive
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
        return cls(token, first, count, label, best, step)

    def __len__(self) -> int:
        return len(self.token)

    def find(self, spelling: Spelling) -> list[int]:
        """Words that are spelled so, by number."""
        nodes = [*self.roots]
        for token in spelling:
            children = [
                child for node in nodes for child in range(self.first[node], self.first[node] + self.count[node])
            ]
            nodes = [child for child in children if self.token[child] == token]
        return [int(self.label[node]) for node in nodes if self.label[node] >= 0]

    def with_words(self, other: Trie) -> Trie:
        """Both together; words that begin alike keep nodes of their own."""
        size = len(self)
        return Trie(
            np.concatenate((self.token, other.token)),
            np.concatenate((self.first, other.first + size)),
            np.concatenate((self.count, other.count)),
            np.concatenate((self.label, other.label)),
            np.concatenate((self.best, other.best)),
            np.concatenate((self.step, other.step)),
            (*self.roots, *(root + size for root in other.roots)),
        )
