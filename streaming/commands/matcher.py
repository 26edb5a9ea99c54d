"""Voice commands: the best path through a grammar, held against the free path, taken or rejected.

A path is paid for in nats: what it lacks, in each frame, to the best token of that frame. Speech that is not in the
grammar makes every path through it dear, so it is rejected, and the score says how far off it was. The closeness of a
path is exp(-cost / letters), 1 where the grammar's path is the free path. Its score is the geometric mean of that and
of its confidence as a transcript: noise, in which nothing is likely, is close to anything. The score of a word is its
closeness alone, over the frames since the word before it, for the last word to the end, so that speech which lies in a
gap counts too; and so for single letters: two that were clearly heard and are not in the command are too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, pairwise
from math import exp, inf, log
from typing import Final

import numpy as np

from ..ctc.greedy import DecodedWord, confidence, decode
from ..ctc.spelling import Speller
from ..ctc.vocabulary import Vocabulary
from ..errors import ConfigError, GrammarError
from .automaton import Automaton, from_network
from .budget import TooLarge, Work
from .grammar import Grammar, parse_grammar
from .meaning import Meaning, Network
from .nbest import alternatives
from .viterbi import NEVER, Path, Rows, Viterbi, relative

BEAM: Final = 60.0  # nats; a dearer command is never accepted
MOST_FRAMES: Final = 1_500  # 30 s; what takes longer is no command
MOST_RIVALS: Final = 32  # paths that an early decision looks at; where more are left it is too early
EARLY_READING: Final = 30_000  # as `MOST_READING`, for all that they can still mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Strictness:
    """When a command counts as said. Raises `ConfigError` for what is out of range."""

    score: float = 0.5  # least score of the command, 0..1
    word_score: float = 0.05  # least score of each of its words, 0..1
    letter_cost: float = 12.0  # nats, the most for each of its letters with what was heard since the one before
    settle: int = 10  # frames without a token before an early decision

    def __post_init__(self) -> None:
        if not (0 < self.score <= 1 and 0 <= self.word_score <= 1 and self.settle >= 0):
            raise ConfigError("score and word_score are between 0 and 1, settle is not negative")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A command that may have been said. Words have frames, and confidences as in transcripts."""

    meaning: Meaning
    words: tuple[DecodedWord, ...]
    text: str
    score: float  # 0..1
    word_score: float  # 0..1, of the worst word
    letter_cost: float  # nats, of the dearest letter


@dataclass(frozen=True, slots=True)
class Decision:
    """`best` is what came nearest, None if nothing came near; `accepted` says whether it counts as said."""

    accepted: bool
    best: Candidate | None
    frame: int  # up to which the utterance had been heard
    early: bool = False
    others: tuple[Candidate, ...] = ()  # with other meanings, the best first
    woken: int | None = None  # the frame after the wake phrase, if it was said in this utterance
    asleep: bool = False  # nothing counts before the wake phrase is said

    @property
    def score(self) -> float:
        return self.best.score if self.best else 0.0


class Commands:
    """A grammar compiled for a vocabulary; shared by all who listen for it. Raises `GrammarError`."""

    def __init__(self, grammar: Grammar | str, vocabulary: Vocabulary) -> None:
        self.grammar = parse_grammar(grammar) if isinstance(grammar, str) else grammar
        self.vocabulary = vocabulary
        self._speller = Speller(vocabulary)
        self.network = Network(self.grammar, self._speller)
        try:
            self.automaton = Automaton.build(from_network(self.network), vocabulary)
        except TooLarge as error:
            raise GrammarError(f"the grammar is too large: {error}", 1, 1) from error
        automaton = self.automaton
        self.finished = np.flatnonzero(automaton.ends[automaton.owner] >= 0)  # cells in which a command may end
        # Letters of the longest command through each cell, very many where there is no longest; and of the longest
        # word through, or after, each state.
        self.longest = automaton.longest(vocabulary)[automaton.owner]
        self.longest_word = automaton.longest(vocabulary, words=True)
        self.silent = np.array([not text.strip() for text in vocabulary.texts])  # tokens that write nothing

    def interpret(self, texts: Iterable[str], work: Work | None = None) -> Meaning | None:
        """What words that were heard mean; as `Network.interpret`."""
        return self.network.interpret([unit for text in texts for unit in self._speller.units(text)], work)

    def understand(self, typed: str) -> Meaning | None:
        """What typed words mean."""
        units = [self._speller.spell(unit) for unit in self._speller.units(typed)]
        return self.network.interpret([unit or "" for unit in units])

    def text(self, path: Path) -> str:
        """What a path writes so far."""
        tokens: list[int] = path.tokens.tolist()
        return "".join(self.vocabulary.texts[token] for token, _ in groupby(tokens))


@lru_cache(maxsize=16)
def compiled(grammar: str, vocabulary: Vocabulary) -> Commands:
    """The commands of a grammar, compiled once for all who use it. Takes up to a second. Raises `GrammarError`."""
    return Commands(grammar, vocabulary)


class Listener:
    """One utterance: `push` its rows as they come, then `finish`. A decision that is made `early` stands."""

    def __init__(
        self, commands: Commands, strictness: Strictness | None = None, *, early: bool = True, frame: int = 0
    ) -> None:
        self.decision: Decision | None = None
        self._may_be_early = early
        self._commands = commands
        self._strictness = strictness or Strictness()
        self._viterbi = Viterbi(commands.automaton, frame)
        self._rows: list[Rows] = []
        self._quiet = 0  # frames since the free path had a token that writes

    def push(self, rows: Rows) -> Decision | None:
        """Take log-probabilities of the next frames, (frames, vocabulary); return a decision that is made early."""
        rows = rows[: self._viterbi.begun + MOST_FRAMES + 1 - self._viterbi.frame]
        if not len(rows):
            return None
        self._rows.append(rows)
        made = self.decision
        silent = self._commands.silent[rows.argmax(axis=1)]
        for index, row in enumerate(relative(rows)):
            begin = 0.0 if self._viterbi.frame == self._viterbi.begun else -inf
            self._viterbi.step(row, enter=begin, floor=np.float32(-BEAM))
            self._quiet = self._quiet + 1 if silent[index] else 0
            if self._may_be_early and self.decision is None and self._quiet == self._strictness.settle:
                self.decision = self._early()
        return self.decision if made is None else None

    def fork(self) -> Listener:
        """A copy that goes its own way."""
        fork = Listener(self._commands, self._strictness, early=self._may_be_early)
        fork.decision, fork._quiet = self.decision, self._quiet
        fork._viterbi, fork._rows = self._viterbi.fork(), list(self._rows)
        return fork

    def finish(self, others: int = 0) -> Decision:
        """The utterance is over. Also tells up to so many `others` that it might have been."""
        if self.decision is not None:
            return self.decision
        self.decision = self.judge()
        if others and self.decision.best is not None:
            self.decision = replace(self.decision, others=tuple(self._others(others, self.decision.best)))
        return self.decision

    def judge(self) -> Decision:
        """What the decision would be if the utterance ended here; an early one does not change it."""
        frame, ends = self._viterbi.frame, self._commands.finished
        nothing = Decision(False, None, frame)
        if frame == self._viterbi.begun or frame > self._viterbi.begun + MOST_FRAMES:
            return nothing
        best = int(ends[self._viterbi.scores[ends].argmax()])
        if self._viterbi.scores[best] == NEVER:
            return nothing
        candidate = self._candidate(self._viterbi.trace(best))
        return Decision(self._accepts(candidate), candidate, frame) if candidate else nothing

    def _accepts(self, heard: Candidate) -> bool:
        least = self._strictness
        return (
            heard.score >= least.score
            and heard.word_score >= least.word_score
            and heard.letter_cost <= least.letter_cost
        )

    # ── early decisions ──

    def _early(self) -> Decision | None:
        """Accept what nothing else in the grammar can still overtake.

        Costs only grow, so a path that costs more than the longest command through its cell may (its closeness must be
        the square of the least score) is out for good, and so is one with a word or a letter that costs more than it
        may. If every command that the other paths can still become means what the best one means, then whatever
        follows, the end would find this command or none.
        """
        decision = self.judge()
        if not decision.accepted or decision.best is None:
            return None
        allowed = 2 * log(self._strictness.score) * self._commands.longest
        rivals = np.flatnonzero(self._viterbi.scores >= np.maximum(allowed, -BEAM))
        if len(rivals) > MOST_RIVALS:
            return None
        work = Work(EARLY_READING)
        try:
            for cell in rivals:
                path = self._viterbi.trace(int(cell))
                if self._letter_cost(path) <= self._strictness.letter_cost and self._can_be_accepted(path):
                    for meaning in self._meanings(path, work):
                        if meaning is None or not _same(meaning, decision.best.meaning):
                            return None
        except TooLarge:
            return None
        return replace(decision, early=True)

    def _can_be_accepted(self, path: Path) -> bool:
        """Whether all words of an unfinished path may still turn out good enough."""
        automaton = self._commands.automaton
        state = int(automaton.owner[path.cell])
        allowed = -log(max(self._strictness.word_score, 1e-9))  # for each letter
        ahead = allowed * int(self._commands.longest_word[state])
        words, costs = self._words(path)
        if not words:
            return float(path.costs.sum()) <= ahead
        *costs, last = costs
        if not automaton.bounded[state]:  # the last word is open
            return last <= ahead and _within(costs, words, allowed)
        since = float(path.costs[words[-1].end :].sum())  # the next word's, or the last one's if it is the last
        ended = bool(automaton.ends[state] >= 0) and last <= allowed * words[-1].tokens
        return (ended or since <= ahead) and _within([*costs, last - since], words, allowed)

    def _meanings(self, path: Path, work: Work) -> Iterator[Meaning | None]:
        """What a path can still become to mean; None where that is too much to tell."""
        commands = self._commands
        so_far = commands.text(path)
        for rest in commands.automaton.completions(int(commands.automaton.owner[path.cell]), commands.vocabulary):
            work.take(len(so_far) + len(rest or ""))
            yield None if rest is None else commands.interpret((so_far + rest).split(), work)

    # ── what a path says ──

    def _heard(self) -> Rows:
        """All rows, joined once however many paths are looked at."""
        if len(self._rows) > 1:
            self._rows = [np.concatenate(self._rows)]
        return self._rows[0]

    def _words(self, path: Path) -> tuple[list[DecodedWord], list[float]]:
        """Words of a path from the first frame on, and the cost of each."""
        rows = self._heard()[: len(path.tokens)]
        words = decode(rows, self._commands.vocabulary, path.tokens)
        bounds = [0, *(word.end for word in words[:-1]), len(rows)]
        return words, [float(path.costs[start:end].sum()) for start, end in pairwise(bounds)]

    def _letter_cost(self, path: Path) -> float:
        """Of the dearest letter, from the end of the letter before; what follows the last counts as one more."""
        ends = (
            np.flatnonzero(~self._commands.silent[path.tokens] & np.append(path.tokens[1:] != path.tokens[:-1], True))
            + 1
        )
        return float(np.add.reduceat(path.costs, [0, *ends[ends < len(path.costs)].tolist()]).max())

    def _candidate(self, path: Path) -> Candidate | None:
        """None where it would take too long to tell what it means."""
        words, costs = self._words(path)
        meaning = self._commands.interpret([word.text for word in words])
        if meaning is None:
            return None
        worst = max(cost / word.tokens for cost, word in zip(costs, words, strict=True))
        closeness = exp(-sum(costs) / sum(word.tokens for word in words))
        text = self._commands.vocabulary.join(word.text for word in words)
        score = (closeness * confidence(words)) ** 0.5
        at = tuple(replace(word, start=path.start + word.start, end=path.start + word.end) for word in words)
        return Candidate(meaning, at, text, score, exp(-worst), self._letter_cost(path))

    def _others(self, count: int, best: Candidate) -> Iterator[Candidate]:
        told = [best.meaning]
        for path in alternatives(self._viterbi, relative(self._heard()), self._commands.vocabulary):
            heard = self._candidate(path)
            if heard and not any(_same(heard.meaning, meaning) for meaning in told):
                told.append(heard.meaning)
                yield heard
                if len(told) > count:
                    return


def _within(costs: list[float], words: list[DecodedWord], allowed: float) -> bool:
    """Whether each of the costs, which are those of the first words, is at most `allowed` for each token."""
    return all(cost <= allowed * word.tokens for cost, word in zip(costs, words, strict=False))


def _same(one: Meaning, other: Meaning) -> bool:
    """Whether two commands would be carried out alike, whatever words they were said in."""

    def gist(meaning: Meaning) -> tuple[str, list[tuple[str, object]]]:
        return meaning.command, [(slot.name, slot.value) for slot in meaning.slots]

    return gist(one) == gist(other)
