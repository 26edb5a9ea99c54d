"""Alternative paths through an automaton, each with different tokens, best first.

Tree-trellis search (Soong and Huang 1990): Viterbi stores the score of every cell after every frame. A search backwards
from the end uses them as the exact score of the remaining path, so A* finds the paths in order. A hypothesis is a
sequence of last tokens with its best score for each start frame; it includes all alignments of these tokens.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from math import inf
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ctc.vocabulary import Vocabulary
from .automaton import Automaton
from .machine import Machine
from .viterbi import NEVER, Floats, Path, Viterbi

MAX_STEPS: Final = 5_000  # hypotheses

Scores = NDArray[np.float64]


class _Hypothesis(NamedTuple):
    state: int
    tokens: tuple[int, ...]  # after the state
    begun: Scores  # (frames + 1,) score of the rest if the first token begins in each frame


def alternatives(viterbi: Viterbi, rows: Floats, vocabulary: Vocabulary) -> Iterator[Path]:
    """Paths from the first frame to an end after the last frame.

    `rows`, (frames, vocabulary), are the relative log-probabilities that `viterbi` received.
    """
    automaton, frames = viterbi.automaton, len(rows)
    alive, scores = viterbi.ever_alive()
    place = {cell: at for at, cell in enumerate(alive.tolist())}
    total = np.concatenate((np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)))
    blank = vocabulary.blank
    into: list[list[tuple[int, int]]] = [[] for _ in automaton.machine.arcs]
    for source in {0, *automaton.owner[alive].tolist()}:
        arcs = automaton.machine.arcs[source]
        for token, target in arcs.items():
            into[target].append((token, source))
    order = count()
    queue: list[tuple[float, int, _Hypothesis | tuple[int, ...]]] = []

    def add(hypothesis: _Hypothesis) -> None:
        first = hypothesis.tokens[0] if hypothesis.tokens else -1
        cells = viterbi.cells(hypothesis.state)
        left = scores[[place[c] for c in cells if c in place and automaton.token[c] != first]].max(
            axis=0, initial=NEVER
        )
        if hypothesis.state == 0:
            left[0] = 0.0
        best = float((left + hypothesis.begun).max())
        if best > NEVER:
            heapq.heappush(queue, (-best, next(order), hypothesis))

    end = np.full(frames + 1, NEVER, np.float64)
    end[frames] = 0.0
    for state in np.flatnonzero(automaton.ends >= 0):
        add(_Hypothesis(int(state), (), end))
    steps = 0
    while queue and steps < MAX_STEPS:
        _, _, hypothesis = heapq.heappop(queue)
        if not isinstance(hypothesis, _Hypothesis):
            yield _align(hypothesis, rows, vocabulary)
            continue
        state, tokens, begun = hypothesis
        rested = _after_blanks(begun, total[:, blank])
        if state == 0 and tokens and rested[0] > NEVER:
            heapq.heappush(queue, (-float(rested[0]), next(order), tokens))
        steps += 1 + len(into[state])
        for token, source in into[state]:
            after: Scores = rested
            if tokens and token == tokens[0]:  # a blank must separate equal tokens
                after = np.append(np.diff(total[:, blank]) + rested[1:], -inf)
            add(_Hypothesis(source, (token, *tokens), _spoken(after, total[:, token])))


def _after_blanks(begun: Scores, total: Scores) -> Scores:
    """Score from each frame on, with zero or more blanks first; `total` is the cumulative score of the blank."""
    return np.maximum.accumulate((begun + total)[::-1])[::-1] - total


def _spoken(after: Scores, total: Scores) -> Scores:
    """Score from each frame on, if a token takes one or more frames before `after`; `total` as above, of the token."""
    return np.append(np.maximum.accumulate((after + total)[:0:-1])[::-1], NEVER) - total


def _align(tokens: tuple[int, ...], rows: Floats, vocabulary: Vocabulary) -> Path:
    """The best path with exactly these tokens."""
    line = Machine[int]([{token: at} for at, token in enumerate(tokens, 1)] + [{}], [-1] * len(tokens) + [0])
    automaton = Automaton.lay_out(line, vocabulary)
    viterbi = Viterbi(automaton)
    for frame, row in enumerate(rows):
        viterbi.step(row, enter=-inf if frame else 0.0, floor=NEVER)
    return viterbi.trace(max(viterbi.cells(len(tokens)), key=lambda cell: viterbi.scores[cell]))
