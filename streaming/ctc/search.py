"""Viterbi beam search over CTC rows, frame by frame: a lexicon trie, a word n-gram, and boosted phrases.

A hypothesis is a node of the trie, a context of the n-gram and a state of the boosts; hypotheses equal in all three
merge. Each has two scores: `blank` if its last frame is a blank, `spoken` if that frame is the node's token. A row
either keeps a hypothesis or extends it to a child of its node. A boundary ends the word and leads back to the root;
there the n-gram's score of the word replaces the look-ahead, the best score of any word below the node.

Back pointers of every frame give the words and times of the best path. Frames on which all live hypotheses agree are
settled. Each frame is searched by itself, so any split of the rows gives the same result, bit for bit. Arrays are
replaced and never written to, so forks share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
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
_highest: Final = partial(np.maximum.reduce, initial=NEVER)


class Trace(NamedTuple):
    """A path through all frames that are not settled."""

    score: float
    tokens: Ints  # (frames,)


class _Beam(NamedTuple):
    """Hypotheses as columns. State `i` is the blank of hypothesis `i`, state `hypotheses + i` its token."""

    node: Ints
    context: Ints
    boost: Ints
    blank: Scores
    spoken: Scores
    word: Scores  # what the end of the word adds to the score; NaN: not looked up yet
    after: Ints  # the context after the word

    def best(self) -> _Best:
        """The better state of each hypothesis."""
        size = len(self.node)
        states = np.arange(2 * size)
        better = np.where(self.spoken > self.blank, states[size:], states[:size])
        return _Best(np.maximum(self.blank, self.spoken), better)


class _Best(NamedTuple):
    score: Scores  # (hypotheses,)
    state: Ints  # (hypotheses,)


class _Candidates(NamedTuple):
    """Hypotheses that write a token at a frame, as columns, before equal ones merge."""

    node: Ints
    context: Ints
    boost: Ints
    spoken: Scores
    back: Ints  # state at the previous frame


class _Frame(NamedTuple):
    back: Ints  # (states,) state at the previous frame
    token: Ints  # (hypotheses,)


def _best_of_each(key: Ints, score: Scores) -> Ints:
    """Where the highest score of each key is, by rising keys."""
    order = np.lexsort((-score, key))
    return order[np.unique(key[order], return_index=True)[1]]


class Search:
    """One beam over one utterance.

    Without `merged`, hypotheses with different words stay apart even if their futures are equal: use it for n-best.
    """

    def __init__(
        self,
        ngram: Ngram,
        trie: Trie,
        weights: Weights,
        boundary: int,
        blank: int,
        boosts: Boosts,
        *,
        offsets: Rows | None = None,
        merged: bool = True,
    ) -> None:
        self.frame = 0  # the next frame
        self.settled = 0  # number of settled frames
        self.boosts = boosts
        self.offsets = offsets  # (vocabulary,), added to each row
        self._weights = weights
        self._boundary, self._blank = boundary, blank
        self._trie = trie
        self._scores = WordScores(ngram, weights, merged=merged)
        self._frames: list[_Frame] = []
        root = np.zeros(1, np.intp)
        self._beam = _Beam(root, root, root, np.zeros(1), np.full(1, NEVER), np.full(1, np.nan), root)

    def fork(self) -> Search:
        """An independent copy."""
        fork = Search.__new__(Search)
        fork.__dict__.update(self.__dict__)
        fork._scores, fork._frames = self._scores.fork(), [*self._frames]
        return fork

    def discard(self, fork: Search) -> None:
        """Free the room of a fork that is no longer used, nor are forks of it."""
        if fork._trie.room is self._trie.room:
            self._trie.reclaim()

    def extend(self, trie: Trie) -> None:
        """Add the words of another trie from this frame on."""
        self._trie = self._trie.with_words(trie)

    def change(self, boosts: Boosts) -> None:
        """Boost other phrases from this frame on. Unfinished phrases lose what they earned."""
        beam, held = self._beam, self.boosts.held[self._beam.boost]
        self.boosts = boosts
        blank, spoken = beam.blank - held, beam.spoken - held
        # Hypotheses that only the boosts told apart are equal now; each state keeps its best path.
        key = beam.context * len(self._trie) + beam.node
        blanks, tokens = _best_of_each(key, blank), _best_of_each(key, spoken)
        node, word, after = beam.node[tokens], beam.word[tokens], beam.after[tokens]
        boost = boosts.start(node == 0)
        self._beam = _Beam(node, beam.context[tokens], boost, blank[blanks], spoken[tokens], word, after)
        if self._frames:
            back, token = self._frames[-1]
            self._frames[-1] = _Frame(back[np.concatenate((blanks, tokens + len(key)))], token[tokens])

    # ── frames ──

    def step(self, rows: Rows) -> None:
        """Search log-probabilities of the next frames, (frames, vocabulary)."""
        if not len(rows):
            return
        allowed = self._weights.tried(rows, self._blank, self.offsets)
        extends: list[bool] = np.logical_or.reduce(allowed, axis=1).tolist()
        if self.offsets is not None:
            rows = rows + self.offsets
        for at, row in enumerate(rows.astype(np.float64)):
            self._search_row(row, allowed[at] if extends[at] else None)
        self.frame += len(rows)

    def _search_row(self, row: Scores, allowed: NDArray[np.bool_] | None) -> None:
        """Search one row. `allowed` are the tokens that may extend a hypothesis, (vocabulary,); None: no token."""
        beam, best = self._beam, self._beam.best()
        own = self._trie.token[beam.node]
        root = beam.node == 0  # a boundary repeats with or without blanks in between
        blank = best.score + row[self._blank]
        kept = _Candidates(
            beam.node,
            beam.context,
            beam.boost,
            np.where(root, best.score, beam.spoken) + row[own],
            np.where(root, best.state, np.arange(len(own), 2 * len(own))),
        )
        if allowed is None:
            self._beam = beam._replace(blank=blank, spoken=kept.spoken)
            self._frames.append(_Frame(np.concatenate((best.state, kept.back)), own))
            return
        highest = max(_highest(blank), _highest(kept.spoken))
        parts = [kept, self._extended(best, row, allowed, highest)]
        if allowed[self._boundary] and len(ends := self._word_ends(best)):
            parts.append(self._ended(best, row, ends))
        self._merge(blank, best, _Candidates(*map(np.concatenate, zip(*parts, strict=True))))

    def _extended(self, best: _Best, row: Scores, allowed: NDArray[np.bool_], highest: float) -> _Candidates:
        """Hypotheses that move to a child, near the best score; `highest` is that of the hypotheses that stay."""
        beam = self._beam
        source, node, token = self._trie.children(beam.node, allowed)
        repeats = token == self._trie.token[beam.node[source]]  # only after a blank
        score = np.where(repeats, beam.blank[source], best.score[source])
        score += row[token]
        score += self._weights.lm * self._trie.step[node]
        if self.boosts:
            score += self.boosts.gain[beam.boost[source], token]
        floor = max(highest, _highest(score)) - self._weights.threshold
        near = (score >= floor).nonzero()[0]
        source, node, token = source[near], node[near], token[near]
        boost = beam.boost[source]
        if self.boosts:
            boost = self.boosts.next[boost, token]
        back = np.where(repeats[near], source, best.state[source])
        return _Candidates(node, beam.context[source], boost, score[near], back)

    def _ended(self, best: _Best, row: Scores, ends: Ints) -> _Candidates:
        """The hypotheses `ends`, back at the root after a boundary."""
        beam = self._beam = self._with_words(self._beam, ends)
        score, boost = best.score[ends] + row[self._boundary] + beam.word[ends], beam.boost[ends]
        if self.boosts:
            score += self.boosts.gain[boost, self._boundary]
            boost = self.boosts.next[boost, self._boundary]
        return _Candidates(np.zeros(len(ends), np.intp), beam.after[ends], boost, score, best.state[ends])

    def _word_ends(self, best: _Best) -> Ints:
        """Hypotheses whose node completes a word, without those that `settle` has dropped."""
        return ((self._trie.label[self._beam.node] >= 0) & (best.score > NEVER)).nonzero()[0]

    def _with_words(self, beam: _Beam, ends: Ints) -> _Beam:
        """The beam with `word` and `after` filled in for the hypotheses `ends`."""
        missing = ends[np.isnan(beam.word[ends])]
        if not len(missing):
            return beam
        nodes = beam.node[missing]
        word, after = beam.word.copy(), beam.after.copy()
        word[missing], after[missing] = self._scores.score(beam.context[missing], self._trie.label[nodes], nodes)
        word[missing] -= self._weights.lm * self._trie.best[nodes]
        return beam._replace(word=word, after=after)

    def _merge(self, kept_blank: Scores, best: _Best, candidates: _Candidates) -> None:
        """Merge equal hypotheses, then prune to the beam.

        The first candidates are the hypotheses that stay: they alone may end in a blank, with the scores `kept_blank`.
        """
        beam = self._beam
        node, context, boost, score, back = candidates
        key = (context * self.boosts.states + boost) * len(self._trie) + node
        order = np.lexsort((-score, key))
        key = key[order]
        new = np.empty(len(key), bool)
        new[0] = True
        np.not_equal(key[1:], key[:-1], out=new[1:])
        first = new.nonzero()[0]
        spoken = order[first]
        stayed = np.minimum.reduceat(order, first)
        moved = stayed >= len(kept_blank)
        stayed[moved] = 0
        blank = np.where(moved, NEVER, kept_blank[stayed])
        total = np.maximum(blank, score[spoken])
        floor = _highest(total) - self._weights.threshold
        if len(total) > self._weights.beam:
            floor = max(floor, np.partition(total, -self._weights.beam)[-self._weights.beam])
        near = (total >= floor).nonzero()[0]
        spoken, stayed, blank, moved = spoken[near], stayed[near], blank[near], moved[near]
        node = node[spoken]
        word = np.where(moved, np.nan, beam.word[stayed])
        self._beam = _Beam(node, context[spoken], boost[spoken], blank, score[spoken], word, beam.after[stayed])
        self._frames.append(_Frame(np.concatenate((best.state[stayed], back[spoken])), self._trie.token[node]))

    # ── results ──

    def traces(self) -> Iterator[Trace]:
        """Paths by falling score, if the sentence ended here.

        Only hypotheses whose last word is complete count; if there are none, all do.
        """
        best = self._beam.best()
        starts = ((self._beam.node == 0) & (best.score > NEVER)).nonzero()[0]
        ends = self._word_ends(best)
        beam = self._with_words(self._beam, ends)
        if len(starts) + len(ends):
            place = np.concatenate((starts, ends))
            after = np.concatenate((beam.context[starts], beam.after[ends]))
            boost = beam.boost[ends]
            score = np.concatenate((best.score[starts], best.score[ends] + beam.word[ends]))
            if self.boosts:
                score[len(starts) :] += self.boosts.gain[boost, self._boundary]
                boost = self.boosts.next[boost, self._boundary]
            score -= self.boosts.held[np.concatenate((beam.boost[starts], boost))]
            score += self._scores.ends(after)
        else:
            place, score = (best.score > NEVER).nonzero()[0], best.score[best.score > NEVER]
        for at in np.argsort(-score, kind="stable"):
            yield Trace(float(score[at]), self._trace(int(best.state[place[at]]), len(self._frames)))

    def settle(self, margin: float, look_back: int) -> Ints:
        """Settle frames up to the end of the last word on which all likely hypotheses agree; (frames,), their tokens.

        Likely is at most `margin` nats below the best. Words older than `look_back` frames settle as the best
        hypothesis has them. Hypotheses with another past are dropped. Empty if there is no such word.
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
        """Whether frame `frames - 1` of the path that ends in `state` is the boundary after a word."""
        frame = self._frames[frames - 1]
        size = len(frame.token)
        if state < size or frame.token[state - size] != self._boundary:
            return False
        if frames == 1:
            return True
        before = self._frames[frames - 2].token
        return bool(before[int(frame.back[state]) % len(before)] != self._boundary)

    def _trace(self, state: int, frames: int) -> Ints:
        """Tokens of the first `frames` frames, on the path that ends in `state`."""
        tokens: list[int] = []
        for frame in reversed(self._frames[:frames]):
            size = len(frame.token)
            tokens.append(int(frame.token[state - size]) if state >= size else self._blank)
            state = int(frame.back[state])
        return np.array(tokens[::-1], np.intp)
