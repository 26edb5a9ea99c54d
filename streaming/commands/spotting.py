"""Finds phrases anywhere in speech, with the same Viterbi, where they beat the free path.

    free path ──┬────────────────────────────────────┬──▶      score 0 in every frame
                └─▶ phrase: cost of its tokens ... ──┘         minus its cost, plus its boost

A phrase begins and ends where no word of the free path is open, so it replaces only whole words. Its boost is in nats
for each letter: a phrase is detected if exp(-cost / letters) exceeds exp(-boost). Among overlapping phrases the set
with the highest total gain wins. Source: word spotting on CTC posteriors (Andrusenko et al. 2024, arXiv 2406.07096).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf
from typing import Final

import numpy as np

from ..ctc.spelling import Speller
from ..ctc.vocabulary import Vocabulary
from ..errors import ConfigError
from .automaton import Automaton
from .budget import TooLarge
from .machine import from_phrases
from .viterbi import NEVER, Floats, Path, Rows, Viterbi, relative

PAUSE: Final = 10  # frames without a letter on the free path that end a word
MAX_BOOST: Final = 20.0  # nats for each letter
_MIN_GAIN: Final = 1e-3  # nats; less is rounding


class Phrases:
    """Phrases with their boosts, compiled for a vocabulary, immutable and shared by all sessions.

    Raises `ConfigError` for boosts outside (0, 20] and for phrases that the vocabulary cannot write.
    """

    def __init__(self, boosts: Mapping[str, float], vocabulary: Vocabulary) -> None:
        self.boosts = dict(boosts)
        self.vocabulary = vocabulary
        speller = Speller(vocabulary)
        entries: list[tuple[list[str], int]] = []
        self.letters: list[int] = []
        self.notes: list[str] = []  # phrases that the vocabulary writes with other letters
        self.words: set[str] = set()  # in the vocabulary's spelling
        self.phrases = list(self.boosts)
        for phrase, boost in self.boosts.items():
            if not 0 < boost <= MAX_BOOST:
                raise ConfigError(
                    f"the boost of {phrase!r} is {boost:g}, not above 0 and at most {MAX_BOOST:g}{_colon_hint(phrase)}"
                )
            units = speller.units(phrase)
            spelled = [found for unit in units if (found := speller.spell(unit)) is not None]
            if not units or len(spelled) < len(units):
                unknown = " ".join(dict.fromkeys(char for unit in units for char in speller.unknown(unit)))
                why = f": its vocabulary has no {unknown}" if unknown else ""
                raise ConfigError(f"the model cannot write {phrase!r}{why}{_colon_hint(phrase)}")
            if written := speller.respelled(phrase):
                self.notes.append(f"the model writes {phrase!r} as {written!r}")
            entries.append((spelled, len(self.letters)))
            self.words.update(spelled)
            self.letters.append(sum(map(len, spelled)))
        try:
            self.automaton = Automaton.build(from_phrases(entries), vocabulary)
        except TooLarge as error:
            raise ConfigError(f"too many phrases: {error}") from error
        # By token: whether it writes no letter, and whether no word is open after it or before it.
        self.silent = vocabulary.silent
        self.closes = [text[-1:].isspace() or not vocabulary.separator for text in vocabulary.texts]
        self.opens = [text[:1].isspace() and bool(text.strip()) for text in vocabulary.texts]
        gains = [boost * count for boost, count in zip(self.boosts.values(), self.letters, strict=True)]
        self.worth = np.array([*gains, -inf], np.float32)[self.automaton.ends]  # (states,) gain of an end
        self.hope = self.automaton.best_ahead(self.worth)[self.automaton.owner]  # (cells,) highest possible gain


def _colon_hint(phrase: str) -> str:
    """A hint for times such as `10:30`, which reads as the phrase `10` with boost 30."""
    if not phrase[-1:].isdigit():
        return ""
    return " (the number after the last colon is the boost; write a time as it is said, like ten thirty)"


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A phrase in the frames of `path`."""

    phrase: str
    path: Path
    score: float  # 0..1: exp(-cost / letters)


class Spotter:
    """Detects phrases in rows as they arrive. No further detection begins before frame `settled`.

    `eager` reports a phrase at its end, even if an overlapping phrase could still gain more.
    """

    def __init__(self, phrases: Phrases, *, eager: bool = False, frame: int = 0) -> None:
        self.settled = frame
        self._phrases = phrases
        self._eager = eager
        self._last = -1  # token of the free path
        self._open = False  # whether a word of the free path is open
        self._quiet = 0  # frames since the free path last wrote a letter
        self._restart()

    def _restart(self) -> None:
        self._viterbi = Viterbi(self._phrases.automaton, self.settled)
        self._best = 0.0  # highest gain so far
        self._ends: list[tuple[int, int]] = []  # (frame, cell) of each rise of the gain

    @property
    def frame(self) -> int:
        """The next frame."""
        return self._viterbi.frame

    def fork(self) -> Spotter:
        """An independent copy."""
        fork = Spotter(self._phrases, eager=self._eager, frame=self.settled)
        fork._viterbi = self._viterbi.fork()
        fork._best, fork._ends = self._best, list(self._ends)
        fork._open, fork._quiet, fork._last = self._open, self._quiet, self._last
        return fork

    def push(self, rows: Rows) -> list[Detection]:
        """Take log-probabilities of the next frames, (frames, vocabulary); return the settled detections."""
        if not len(rows):
            return []
        found: list[Detection] = []
        for row, token in zip(relative(rows), rows.argmax(axis=1).tolist(), strict=True):
            if self._phrases.opens[token] and token != self._last:
                self._open = False
                self._end()
                if self._eager and self._ends:
                    found += self._settle()
            self._last = token
            self._step(row, token)
            if (self._eager and self._ends) or not self._pending():
                found += self._settle()
        return found

    def finish(self) -> list[Detection]:
        """The utterance is over; return the remaining detections."""
        self._end()
        return self._settle()

    def _step(self, row: Floats, token: int) -> None:
        enter = -inf if self._open and self._quiet < PAUSE else self._best
        # Drop cells that cannot rise above the free path, whatever follows.
        self._viterbi.step(row, enter=enter, floor=np.float32(self._best) - self._phrases.hope)
        self._quiet = self._quiet + 1 if self._phrases.silent[token] else 0
        self._open = not self._phrases.closes[token] and (self._open or not self._quiet)
        if not self._open or self._quiet >= PAUSE:
            self._end()

    def _end(self) -> None:
        """Record an end of a phrase here if it raises the highest gain."""
        automaton, scores = self._phrases.automaton, self._viterbi.scores
        alive = np.flatnonzero(scores > NEVER)
        states = automaton.owner[alive]
        gains = scores[alive] + self._phrases.worth[states]
        if len(gains) and gains.max() > self._best + _MIN_GAIN:
            at = int(gains.argmax())
            self._best = float(gains[at])
            self._ends.append((self.frame, int(alive[at])))

    def _pending(self) -> bool:
        """Whether any path can still gain. Paths in state 0 at the best gain do not count: new paths equal them."""
        scores = self._viterbi.scores
        useful = scores > NEVER
        useful[list(self._viterbi.cells(0))] &= scores[list(self._viterbi.cells(0))] < self._best - _MIN_GAIN
        return bool(useful.any())

    def _settle(self) -> list[Detection]:
        found: list[Detection] = []
        before = self.frame
        for frame, cell in reversed(self._ends):
            if frame <= before:
                path = self._viterbi.trace(cell, frame)
                index = int(self._phrases.automaton.ends[self._phrases.automaton.owner[cell]])
                score = exp(-float(path.costs.sum()) / self._phrases.letters[index])
                found.append(Detection(self._phrases.phrases[index], path, score))
                before = path.start
        self.settled = self.frame
        self._restart()
        return found[::-1]
