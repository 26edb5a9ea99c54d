"""Viterbi beam search over CTC rows, frame by frame: a lexicon trie, a word n-gram, and boosted phrases.

A hypothesis is a node of the trie, what the n-gram still knows of the words before (so equal futures are merged), and
a state of the boosts. It has two scores: `blank`, that its last frame wrote nothing, and `spoken`, that it wrote the
node's token. A row either keeps a hypothesis or extends it to a child of its node; a boundary ends its word and leads
back to the root, where the n-gram's score replaces the best that any word below the node could have had.

Back pointers of every frame lead from a score to the score that it came from, so words and times are read off the best
path, and the frames that all live hypotheses share are settled for good. Every frame is searched by itself: however
rows are split, the result is the same bit for bit. Arrays are replaced and never written to, so a fork shares them.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .boosts import Boosts
from .ngram import Ngram
from .scoring import Weights, WordScores
from .trie import Trie

Rows = NDArray[np.float32]
Scores = NDArray[np.float64]
Ints = NDArray[np.signedinteger[Any]]

NEVER: Final = -np.inf


class Trace(NamedTuple):
    """A path through all frames that are not settled."""

    score: float
    tokens: Ints  # (frames,)


class _Beam(NamedTuple):
    """Hypotheses, an entry for each. State `i` is the blank of hypothesis `i`, state `hypotheses + i` its token."""

    node: Ints
    context: Ints
    boost: Ints
    blank: Scores
    spoken: Scores
    word: Scores  # what the end of the word adds to the score; NaN: not known yet
    after: Ints  # the context after it


class _Frame(NamedTuple):
    back: Ints  # (states,) of the frame before
    token: Ints  # (hypotheses,)


class Search:
    """One beam over one utterance. Without `merged`, hypotheses with other words stay apart although they have the same
    future, as a list of alternatives wants it."""

    def __init__(
        self,
        ngram: Ngram,
        trie: Trie,
        weights: Weights,
        boundary: int,
        blank: int,
        boosts: Boosts,
        *,
        merged: bool = True,
    ) -> None:
        self.frame = 0  # the next frame
        self.settled = 0  # frames before this one are
        self._weights = weights
        self._boundary, self._silent = boundary, blank
        self._trie = trie
        self.boosts = boosts
        self._scores = WordScores(ngram, weights, merged=merged)
        self._frames: list[_Frame] = []
        nothing = np.zeros(1, np.intp)
        self._beam = _Beam(nothing, nothing, nothing, np.zeros(1), np.full(1, NEVER), np.full(1, np.nan), nothing)

    def fork(self) -> Search:
        """A copy that goes its own way."""
        fork = Search.__new__(Search)
        fork.__dict__.update(self.__dict__)
        fork._scores, fork._frames = self._scores.fork(), [*self._frames]
        return fork

    def discard(self, fork: Search) -> None:
        """A fork is not used any more, nor are its own forks."""
        if fork._trie.room is self._trie.room:
            self._trie.reclaim()

    def extend(self, trie: Trie) -> None:
        """Let the words of another trie take part from here on."""
        self._trie = self._trie.with_words(trie)

    def change(self, boosts: Boosts) -> None:
        """Other phrases are boosted from here on; what was gained by phrases that are not over is given back."""
        beam, held = self._beam, self.boosts.held[self._beam.boost]
        self.boosts = boosts
        fresh = boosts.start(beam.node == 0)
        self._beam = beam._replace(boost=fresh, blank=beam.blank - held, spoken=beam.spoken - held)

    # ── frames ──

    def step(self, rows: Rows) -> None:
        """Take log-probabilities of the next frames, (frames, vocabulary)."""
        if not len(rows):
            return
        weights = self._weights
        floor = rows.max(axis=1, keepdims=True) - np.float32(weights.token_threshold)
        if weights.tokens < rows.shape[1]:
            floor = np.maximum(floor, np.partition(rows, -weights.tokens, axis=1)[:, [-weights.tokens]])
        tried: NDArray[np.bool_] = np.greater_equal(rows, floor)
        tried[:, self._silent] = False
        extends: list[bool] = np.logical_or.reduce(tried, axis=1).tolist()
        for at, row in enumerate(rows.astype(np.float64)):
            self._take(row, tried[at], extends[at])
        self.frame += len(rows)

    def _take(self, row: Scores, may: NDArray[np.bool_], extended: bool) -> None:
        beam = self._beam
        size = len(beam.node)
        states = np.arange(2 * size)
        best = np.maximum(beam.blank, beam.spoken)
        from_best = np.where(beam.spoken > beam.blank, states[size:], states[:size])
        own = self._trie.token[beam.node]
        root = beam.node == 0
        blank = best + row[self._silent]
        spoken = np.where(root, best, beam.spoken) + row[own]  # a boundary may be repeated at will
        from_spoken = np.where(root, from_best, states[size:])
        if not extended:
            self._beam = beam._replace(blank=blank, spoken=spoken)
            self._frames.append(_Frame(np.concatenate((from_best, from_spoken)), own))
            return
        source, node, token = self._children(beam.node, may)
        repeats = token == own[source]  # of a token: only after a blank
        score = np.where(repeats, beam.blank[source], best[source])
        score += row[token]
        score += self._weights.lm * self._trie.step[node]
        if self.boosts:
            score += self.boosts.gain[beam.boost[source], token]
        floor = max(blank.max(), spoken.max(), score.max(initial=NEVER)) - self._weights.threshold
        kept = (score >= floor).nonzero()[0]
        source, node, token, score = source[kept], node[kept], token[kept], score[kept]
        back = np.where(repeats[kept], source, from_best[source])
        context, boost = beam.context[source], beam.boost[source]
        if self.boosts:
            boost = self.boosts.next[boost, token]
        nodes, contexts, boosts = [beam.node, node], [beam.context, context], [beam.boost, boost]
        scores, backs = [spoken, score], [from_spoken, back]
        if may[self._boundary] and len(ends := (self._trie.label[beam.node] >= 0).nonzero()[0]):
            beam = self._with_words(beam, ends)
            scores.append(best[ends] + row[self._boundary] + beam.word[ends])
            nodes.append(np.zeros(len(ends), np.intp))
            contexts.append(beam.after[ends])
            boosts.append(beam.boost[ends])
            backs.append(from_best[ends])
            if self.boosts:
                scores[2] += self.boosts.gain[boosts[2], self._boundary]
                boosts[2] = self.boosts.next[boosts[2], self._boundary]
        self._merge(
            beam,
            blank,
            from_best,
            np.concatenate(nodes),
            np.concatenate(contexts),
            np.concatenate(boosts),
            np.concatenate(scores),
            np.concatenate(backs),
        )

    def _children(self, nodes: Ints, may: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
        """All children of the nodes that the row may lead to: the place of the node, the child, its token."""
        trie, place = self._trie, np.arange(len(nodes))
        if len(trie.roots) > 1:
            starts = (nodes == 0).nonzero()[0]
            nodes = np.concatenate((nodes, np.repeat(trie.roots[1:], len(starts))))
            place = np.concatenate((place, *[starts] * (len(trie.roots) - 1)))
        count = trie.count[nodes]
        ends = count.cumsum()
        source = place.repeat(count)
        child = np.arange(len(source)) + (trie.first[nodes] - (ends - count)).repeat(count)
        token = trie.token[child]
        kept = may[token].nonzero()[0]
        return source[kept], child[kept], token[kept]

    def _with_words(self, beam: _Beam, ends: Ints) -> _Beam:
        """With what the end of the word adds for the hypotheses `ends`."""
        fresh = ends[np.isnan(beam.word[ends])]
        if not len(fresh):
            return beam
        nodes = beam.node[fresh]
        found = [
            self._scores.score(context, label)
            for context, label in zip(beam.context[fresh].tolist(), self._trie.label[nodes].tolist(), strict=True)
        ]
        word, after = beam.word.copy(), beam.after.copy()
        word[fresh] = [score for score, _ in found]
        word[fresh] -= self._weights.lm * self._trie.best[nodes]
        after[fresh] = [context for _, context in found]
        return beam._replace(word=word, after=after)

    def _merge(
        self,
        beam: _Beam,
        blank: Scores,
        from_best: Ints,
        node: Ints,
        context: Ints,
        boost: Ints,
        score: Scores,
        back: Ints,
    ) -> None:
        """Keep the better of hypotheses that are the same, and of all the best. The first are those that stayed."""
        size = len(blank)
        key = (context * self.boosts.states + boost) * len(self._trie) + node
        order = np.lexsort((-score, key))
        key = key[order]
        fresh = np.empty(len(key), bool)
        fresh[0] = True
        np.not_equal(key[1:], key[:-1], out=fresh[1:])
        first = fresh.nonzero()[0]
        spoken = order[first]
        stayed = np.minimum.reduceat(order, first)  # of the same, only the one that stayed may have a blank
        none = stayed >= size
        stayed[none] = 0
        blank = np.where(none, NEVER, blank[stayed])
        total = np.maximum(blank, score[spoken])
        floor = total.max() - self._weights.threshold
        if len(total) > self._weights.beam:
            floor = max(floor, np.partition(total, -self._weights.beam)[-self._weights.beam])
        kept = (total >= floor).nonzero()[0]
        spoken, stayed, blank, none = spoken[kept], stayed[kept], blank[kept], none[kept]
        node = node[spoken]
        word = np.where(none, np.nan, beam.word[stayed])
        self._beam = _Beam(node, context[spoken], boost[spoken], blank, score[spoken], word, beam.after[stayed])
        self._frames.append(_Frame(np.concatenate((from_best[stayed], back[spoken])), self._trie.token[node]))

    # ── what was found ──

    def traces(self) -> Iterator[Trace]:
        """Hypotheses whose last word is complete, or all where none is, as the end of the sentence leaves them; the
        best first."""
        starts = (self._beam.node == 0).nonzero()[0]
        ends = (self._trie.label[self._beam.node] >= 0).nonzero()[0]
        beam = self._with_words(self._beam, ends)
        place = np.concatenate((starts, ends))
        after = np.concatenate((beam.context[starts], beam.after[ends]))
        score = np.maximum(beam.blank, beam.spoken)
        if len(place):
            boost = beam.boost[ends]
            score = np.concatenate((score[starts], score[ends] + beam.word[ends]))
            if self.boosts:
                score[len(starts) :] += self.boosts.gain[boost, self._boundary]
                boost = self.boosts.next[boost, self._boundary]
            score -= self.boosts.held[np.concatenate((beam.boost[starts], boost))]
            contexts: list[int] | None = after.tolist()
        else:
            place, contexts = np.arange(len(score)), None
        state = np.where(beam.spoken > beam.blank, len(beam.node), 0)[place] + place
        # The end of the sentence only takes from a score, so it is looked up for those alone that may come next.
        waiting = [(-each, at, contexts is None) for at, each in enumerate(score.tolist()) if each > NEVER]
        heapify(waiting)
        while waiting:
            cost, at, ended = heappop(waiting)
            if ended or contexts is None:
                yield Trace(-cost, self._trace(int(state[at]), len(self._frames)))
            else:
                heappush(waiting, (cost - self._scores.end(contexts[at]), at, True))

    def settle(self, margin: float, look_back: int) -> Ints:
        """The path up to the end of the last word that all hypotheses share which are at most `margin` below the best;
        (frames,), empty if there is none. After `look_back` frames it is the best hypothesis' word. Others are dropped.
        """
        beam = self._beam
        score = np.concatenate((beam.blank, beam.spoken))
        best = int(score.argmax())
        near = (score >= score[best] - margin).nonzero()[0]
        states = np.arange(len(score))
        at = len(self._frames)
        latest = at - look_back
        while at > 0:
            mine = int(states[best])
            if self._ends_word(mine, at) and (at <= latest or (states[near] == mine).all()):
                break
            at -= 1
            states = self._frames[at].back[states]
        else:
            return np.empty(0, np.intp)
        path = self._trace(mine, at)
        gone = states != mine
        if gone.any():
            size = len(beam.node)
            blank, spoken = np.where(gone[:size], NEVER, beam.blank), np.where(gone[size:], NEVER, beam.spoken)
            self._beam = beam._replace(blank=blank, spoken=spoken)
        del self._frames[:at]
        self.settled += at
        return path

    def _ends_word(self, state: int, frames: int) -> bool:
        """Whether a path that is in a state after so many frames has just ended a word."""
        frame = self._frames[frames - 1]
        size = len(frame.token)
        if state < size or frame.token[state - size] != self._boundary:
            return False
        if frames == 1:
            return True
        before = self._frames[frames - 2].token
        return bool(before[int(frame.back[state]) % len(before)] != self._boundary)

    def _trace(self, state: int, frames: int) -> Ints:
        """Tokens of the path that is in a state after so many frames."""
        tokens: list[int] = []
        for frame in reversed(self._frames[:frames]):
            size = len(frame.token)
            tokens.append(int(frame.token[state - size]) if state >= size else self._silent)
            state = int(frame.back[state])
        return np.array(tokens[::-1], np.intp)
