"""Viterbi over an automaton of token sequences, frame by frame, relative to the free path.

Scores are relative: each frame subtracts the log-probability of its best token. The free path (the best token of every
frame) has score 0, and the scores of other paths can only fall. So dropping cells below `floor` changes no result above
it, and few cells stay alive; at most the best `MAX_ALIVE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .automaton import Automaton

Rows = NDArray[np.float32]
Floats = NDArray[np.float32]
Ints = NDArray[np.intp]

NEVER = np.float32(-np.inf)
MAX_ALIVE: Final = 2_000  # cells after each frame


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A path over frames `[start, start + len(tokens))`; `tokens` and `costs` are (frames,), costs at least 0."""

    start: int
    tokens: Ints
    costs: Floats
    cell: int  # the last

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


def relative(rows: Rows) -> Floats:
    """Log-probabilities, (frames, vocabulary), minus the best of each frame."""
    return rows - rows.max(axis=1, keepdims=True)


class Viterbi:
    """Scores of the cells of an automaton after each frame.

    Paths begin in state 0, in the frames where `enter` of `step` allows it.
    """

    def __init__(self, automaton: Automaton, frame: int = 0) -> None:
        self.automaton = automaton
        self.begun = frame  # the first frame
        self.scores = np.full(automaton.size, NEVER, np.float32)
        self._history: list[tuple[Ints, Floats]] = []  # live cells after each frame, with their scores
        self._entries: list[float] = []  # `enter` of each frame
        self._found: dict[tuple[int, int], tuple[int, float]] = {}  # cache of `_before`: many paths share their start

    @property
    def frame(self) -> int:
        """The next frame."""
        return self.begun + len(self._history)

    def fork(self) -> Viterbi:
        """An independent copy."""
        fork = Viterbi(self.automaton, self.begun)
        fork.scores = self.scores
        fork._history, fork._entries = list(self._history), list(self._entries)
        fork._found = dict(self._found)
        return fork

    def step(self, row: Floats, *, enter: float, floor: Floats | np.float32) -> None:
        """Take the next frame: relative log-probabilities, (vocabulary,).

        Paths may begin with the score `enter`, -inf for none. Cells below `floor`, one value or (cells,), are dropped.
        """
        automaton = self.automaton
        self._entries.append(enter)
        if enter == NEVER and not (len(self._history) and len(self._history[-1][0])):
            self._history.append((np.empty(0, np.intp), np.empty(0, np.float32)))
            return
        leaving = np.maximum.reduceat(self.scores, automaton.first)  # best cell of each state
        leaving[0] = max(leaving[0], enter)
        arcs = leaving[automaton.arc_source]
        if len(automaton.doubled):
            others = np.maximum.reduceat(self.scores[automaton.other_cells], automaton.other_first)
            arcs[automaton.doubled] = others
            if enter > NEVER:
                arcs[automaton.starting] = np.maximum(arcs[automaton.starting], np.float32(enter))
        scores = np.empty_like(self.scores)
        scores[automaton.first] = leaving
        entered = automaton.entered
        scores[entered] = np.maximum(self.scores[entered], np.maximum.reduceat(arcs, automaton.arc_first))
        scores += row[automaton.token]
        scores[scores < floor] = NEVER
        alive = np.flatnonzero(scores > NEVER)
        if len(alive) > MAX_ALIVE:
            dropped = np.argpartition(scores[alive], -MAX_ALIVE)[:-MAX_ALIVE]
            scores[alive[dropped]] = NEVER
            alive = np.delete(alive, dropped)
        self.scores = scores
        self._history.append((alive, scores[alive]))

    def trace(self, cell: int, frame: int | None = None) -> Path:
        """The best path that ends in `cell` at frame `frame - 1`, by default the last one."""
        at = (self.frame if frame is None else frame) - self.begun - 1
        cells, scores = [cell], [self._score(at, cell)]
        while True:
            if (link := self._found.get((at, cell))) is None:
                link = self._found[at, cell] = self._before(cell, at)
            cell, score = link
            scores.append(score)
            if cell < 0:
                break
            cells.append(cell)
            at -= 1
        tokens = self.automaton.token[np.array(cells[::-1])]
        costs = -np.diff(np.array(scores[::-1], np.float32))
        return Path(self.begun + at, tokens, costs, cells[0])

    def ever_alive(self) -> tuple[Ints, Floats]:
        """All cells that were ever alive, and their scores after each number of frames, (cells, frames + 1)."""
        cells = np.unique(np.concatenate([np.empty(0, np.intp), *(alive for alive, _ in self._history)]))
        scores = np.full((len(cells), len(self._history) + 1), NEVER, np.float32)
        for at, (alive, kept) in enumerate(self._history, 1):
            scores[np.searchsorted(cells, alive), at] = kept
        return cells, scores

    def cells(self, state: int) -> range:
        """The cells of a state."""
        first = self.automaton.first
        return range(int(first[state]), int(first[state + 1]) if state + 1 < len(first) else self.automaton.size)

    def _score(self, at: int, cell: int) -> float:
        alive, kept = self._history[at]
        return float(kept[np.searchsorted(alive, cell)])

    def _before(self, cell: int, at: int) -> tuple[int, float]:
        """The predecessor of `cell`, -1 where the path begins, and its score."""
        automaton = self.automaton
        alive, kept = self._history[at - 1] if at else (np.empty(0, np.intp), np.empty(0, np.float32))
        state = int(automaton.owner[cell])
        if cell == automaton.first[state]:
            begins = state == 0
            fits = automaton.owner[alive] == state
        else:
            sources = automaton.arc_source[self._arcs(cell)]
            begins = bool((sources == 0).any())
            fits = np.isin(automaton.owner[alive], sources) & (automaton.token[alive] != automaton.token[cell])
            fits |= alive == cell
        begin = self._entries[at] if begins else float(NEVER)
        candidates = np.flatnonzero(fits)
        best = int(candidates[kept[candidates].argmax()]) if len(candidates) else -1
        if best < 0 or begin >= kept[best]:
            return -1, begin
        return int(alive[best]), float(kept[best])

    def _arcs(self, cell: int) -> slice:
        automaton = self.automaton
        at = int(np.searchsorted(automaton.entered, cell))
        first = automaton.arc_first
        return slice(int(first[at]), int(first[at + 1]) if at + 1 < len(first) else None)
