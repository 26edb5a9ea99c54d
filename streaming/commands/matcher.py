"""Matches one utterance with a grammar: the best path through the grammar, compared with the free path.

The cost of a path in a frame, in nats, is the distance of its token to the best token of that frame. Speech outside the
grammar makes every path through it expensive. The closeness of a path is exp(-cost / letters), 1 on the free path.

The score of a command is the geometric mean of its closeness and its confidence as a transcript. Closeness alone does
not reject noise: no token is likely there, so every path is close. The score of a word is its closeness over the frames
since the previous word (for the last word, up to the end), so speech in a gap counts. The cost of a letter is defined
in the same way; two clear letters outside the command exceed its limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from math import exp, inf, log
from typing import Final

import numpy as np

from ..ctc.greedy import DecodedWord, confidence, decode
from .budget import Budget, TooLarge
from .compiled import CompiledGrammar
from .decision import Candidate, Decision, Strictness
from .meaning import Meaning
from .nbest import alternatives
from .viterbi import NEVER, Path, Rows, Viterbi, relative

BEAM: Final = 60.0  # nats; a more expensive command is never accepted
MAX_FRAMES: Final = 1_500  # 30 s; longer speech is no command
MAX_RIVALS: Final = 32  # paths that an early decision examines; with more there is none
EARLY_READING: Final = 30_000  # as `MAX_READING`, for all meanings of the rivals


class CommandMatcher:
    """One utterance: `push` its rows as they arrive, then `finish`. An `early` decision is final."""

    def __init__(
        self, grammar: CompiledGrammar, strictness: Strictness | None = None, *, early: bool = True, frame: int = 0
    ) -> None:
        self.decision: Decision | None = None
        self._may_be_early = early
        self._grammar = grammar
        self._strictness = strictness or Strictness()
        self._viterbi = Viterbi(grammar.automaton, frame)
        self._rows: list[Rows] = []
        self._quiet = 0  # frames since the free path last had a token that writes

    def push(self, rows: Rows) -> Decision | None:
        """Take log-probabilities of the next frames, (frames, vocabulary); return an early decision."""
        rows = rows[: self._viterbi.begun + MAX_FRAMES + 1 - self._viterbi.frame]
        if not len(rows):
            return None
        self._rows.append(rows)
        before = self.decision
        silent = self._grammar.silent[rows.argmax(axis=1)]
        for index, row in enumerate(relative(rows)):
            begin = 0.0 if self._viterbi.frame == self._viterbi.begun else -inf
            self._viterbi.step(row, enter=begin, floor=np.float32(-BEAM))
            self._quiet = self._quiet + 1 if silent[index] else 0
            if self._may_be_early and self.decision is None and self._quiet == self._strictness.settle:
                self.decision = self._early()
        return self.decision if before is None else None

    def fork(self) -> CommandMatcher:
        """An independent copy."""
        fork = CommandMatcher(self._grammar, self._strictness, early=self._may_be_early)
        fork.decision, fork._quiet = self.decision, self._quiet
        fork._viterbi, fork._rows = self._viterbi.fork(), list(self._rows)
        return fork

    def finish(self, others: int = 0) -> Decision:
        """The utterance is over; the decision lists up to `others` further candidates."""
        if self.decision is not None:
            return self.decision
        self.decision = self.judge()
        if others and self.decision.best is not None:
            self.decision = replace(self.decision, others=tuple(self._others(others, self.decision.best)))
        return self.decision

    def judge(self) -> Decision:
        """The decision if the utterance ended here; ignores an early decision."""
        frame, ends = self._viterbi.frame, self._grammar.finished
        nothing = Decision(False, None, frame)
        if frame == self._viterbi.begun or frame > self._viterbi.begun + MAX_FRAMES:
            return nothing
        best = int(ends[self._viterbi.scores[ends].argmax()])
        if self._viterbi.scores[best] == NEVER:
            return nothing
        candidate = self._candidate(self._viterbi.trace(best))
        return Decision(self._strictness.accepts(candidate), candidate, frame) if candidate else nothing

    # ── early decisions ──

    def _early(self) -> Decision | None:
        """Accept a command that nothing else in the grammar can still overtake.

        Costs only grow. So a path is ruled out if it costs more than the longest command through its cell may cost
        (its closeness must be at least the square of the least score), or if one of its words or letters costs too
        much. If every command that the remaining paths can become has the meaning of the best one, the end of the
        utterance can only give this command or none.
        """
        decision = self.judge()
        if not decision.accepted or decision.best is None:
            return None
        allowed = 2 * log(self._strictness.score) * self._grammar.longest
        rivals = np.flatnonzero(self._viterbi.scores >= np.maximum(allowed, -BEAM))
        if len(rivals) > MAX_RIVALS:
            return None
        budget = Budget(EARLY_READING)
        try:
            for cell in rivals:
                path = self._viterbi.trace(int(cell))
                if self._letter_cost(path) <= self._strictness.letter_cost and self._can_be_accepted(path):
                    for meaning in self._meanings(path, budget):
                        if meaning is None or not meaning.same_effect(decision.best.meaning):
                            return None
        except TooLarge:
            return None
        return replace(decision, early=True)

    def _can_be_accepted(self, path: Path) -> bool:
        """Whether every word of an unfinished path can still reach the least word score."""
        automaton = self._grammar.automaton
        state = int(automaton.owner[path.cell])
        allowed = -log(max(self._strictness.word_score, 1e-9))  # for each letter
        ahead = allowed * int(self._grammar.longest_word[state])
        words, costs = self._words(path)
        if not words:
            return float(path.costs.sum()) <= ahead
        *costs, last = costs
        if not automaton.bounded[state]:  # the last word is open
            return last <= ahead and _within(costs, words, allowed)
        since = float(path.costs[words[-1].end :].sum())  # belongs to the next word, or to the last if none follows
        ended = bool(automaton.ends[state] >= 0) and last <= allowed * words[-1].tokens
        return (ended or since <= ahead) and _within([*costs, last - since], words, allowed)

    def _meanings(self, path: Path, budget: Budget) -> Iterator[Meaning | None]:
        """The meanings that a path can still reach; None if there are too many."""
        grammar = self._grammar
        start = grammar.text(path)
        for rest in grammar.automaton.completions(int(grammar.automaton.owner[path.cell]), grammar.vocabulary):
            budget.spend(len(start) + len(rest or ""))
            yield None if rest is None else grammar.interpret((start + rest).split(), budget)

    # ── candidates ──

    def _all_rows(self) -> Rows:
        """All rows, concatenated once for all paths."""
        if len(self._rows) > 1:
            self._rows = [np.concatenate(self._rows)]
        return self._rows[0]

    def _words(self, path: Path) -> tuple[list[DecodedWord], list[float]]:
        """The words of a path, and the cost of each from the word before it."""
        rows = self._all_rows()[: len(path.tokens)]
        words = decode(rows, self._grammar.vocabulary, path.tokens)
        bounds = [0, *(word.end for word in words[:-1]), len(rows)]
        return words, [float(path.costs[start:end].sum()) for start, end in pairwise(bounds)]

    def _letter_cost(self, path: Path) -> float:
        """Cost of the most expensive letter, from the end of the letter before; the end counts as one more letter."""
        last_frame = np.append(path.tokens[1:] != path.tokens[:-1], True)
        ends = np.flatnonzero(~self._grammar.silent[path.tokens] & last_frame) + 1
        return float(np.add.reduceat(path.costs, [0, *ends[ends < len(path.costs)].tolist()]).max())

    def _candidate(self, path: Path) -> Candidate | None:
        """The command of a path; None if the interpretation takes too many steps."""
        words, costs = self._words(path)
        meaning = self._grammar.interpret([word.text for word in words])
        if meaning is None:
            return None
        worst = max(cost / word.tokens for cost, word in zip(costs, words, strict=True))
        closeness = exp(-sum(costs) / sum(word.tokens for word in words))
        text = self._grammar.vocabulary.join(word.text for word in words)
        score = (closeness * confidence(words)) ** 0.5
        at = tuple(replace(word, start=path.start + word.start, end=path.start + word.end) for word in words)
        return Candidate(meaning, at, text, score, exp(-worst), self._letter_cost(path))

    def _others(self, count: int, best: Candidate) -> Iterator[Candidate]:
        meanings = [best.meaning]
        for path in alternatives(self._viterbi, relative(self._all_rows()), self._grammar.vocabulary):
            candidate = self._candidate(path)
            if candidate and not any(candidate.meaning.same_effect(meaning) for meaning in meanings):
                meanings.append(candidate.meaning)
                yield candidate
                if len(meanings) > count:
                    return


def _within(costs: list[float], words: list[DecodedWord], allowed: float) -> bool:
    """Whether each word costs at most `allowed` for each of its tokens; words without a cost count as within."""
    return all(cost <= allowed * word.tokens for cost, word in zip(costs, words, strict=False))
