"""Token sequences as arrays for Viterbi with the topology of CTC.

Every state of the automaton has one cell for the blank and one for each token that enters the state. A path is in one
cell at each frame. The successors of a cell are the cell itself, the blank of its state and the tokens that leave its
state. A token follows itself only after a blank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..ctc.vocabulary import BOUNDARY, Vocabulary
from .machine import Machine, check_size, letters, minimal, tokens

MAX_PAIRS: Final = 300_000  # pairs of a doubled arc and a cell from which it may leave
MAX_COMPLETIONS: Final = 500  # steps
ENDLESS: Final = 1_000_000  # letters

Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]
_Arc = tuple[int, int]  # target, letters


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """Token sequences as arrays. The cells of a state are adjacent, the blank first. The arcs into a cell are adjacent.

    An arc whose source has a cell of the same token must not leave from that cell. These arcs are `doubled`;
    `other_cells`, from `other_first` on, are the cells from which they may leave.
    """

    machine: Machine[int]
    first: Ints  # (states,) cell of the blank
    owner: Ints  # (cells,) state
    token: Ints  # (cells,)
    entered: Ints  # (token cells,) all cells but those of the blank
    arc_source: Ints  # (arcs,) state
    arc_first: Ints  # (token cells,) first arc into the cell
    doubled: Ints  # (doubled arcs,) arcs
    other_first: Ints  # (doubled arcs,)
    other_cells: Ints
    starting: Ints  # arcs that leave state 0
    ends: Ints  # (states,) class of ends, or -1
    bounded: Bools  # (states,) entered by boundaries only: no word is open

    @classmethod
    def build(cls, words: Machine[str], vocabulary: Vocabulary) -> Automaton:
        """From word sequences in the vocabulary's spelling. Raises `TooLarge`."""
        return cls.lay_out(tokens(minimal(letters(minimal(words), vocabulary.separator)), vocabulary), vocabulary)

    @classmethod
    def lay_out(cls, machine: Machine[int], vocabulary: Vocabulary) -> Automaton:
        """From token sequences. Raises `TooLarge`."""
        into: list[dict[int, list[int]]] = [{} for _ in machine.arcs]
        for state, arcs in enumerate(machine.arcs):
            for token, target in arcs.items():
                into[target].setdefault(token, []).append(state)
        cell: dict[tuple[int, int], int] = {}
        for state, entries in enumerate(into):
            for token in (vocabulary.blank, *entries):
                cell[state, token] = len(cell)
        owner, token = (np.array(column, np.intp) for column in zip(*cell, strict=True))
        arcs = [(source, cell[s, t], t) for s, entries in enumerate(into) for t in entries for source in entries[t]]
        targets = np.array([target for _, target, _ in arcs], np.intp)
        first = np.flatnonzero(token == vocabulary.blank)
        doubled = [at for at, (source, _, t) in enumerate(arcs) if (source, t) in cell]
        check_size(sum(len(into[arcs[at][0]]) for at in doubled), MAX_PAIRS)
        others = [
            [cell[arcs[at][0], t] for t in (vocabulary.blank, *into[arcs[at][0]]) if t != arcs[at][2]] for at in doubled
        ]
        entered, arc_first = np.unique(targets, return_index=True)
        finishes = [all(vocabulary.texts[t][-1:] == BOUNDARY for t in entries) for entries in into]
        return cls(
            machine=machine,
            first=first,
            owner=owner,
            token=token,
            entered=entered,
            arc_source=np.array([source for source, _, _ in arcs], np.intp),
            arc_first=arc_first,
            doubled=np.array(doubled, np.intp),
            other_first=np.cumsum([0, *map(len, others)], dtype=np.intp)[: len(doubled)],
            other_cells=np.array([c for cells in others for c in cells], np.intp),
            starting=np.array([at for at, (s, _, _) in enumerate(arcs) if s == 0], np.intp),
            ends=np.array(machine.ends, np.intp),
            bounded=np.array(finishes) | (not vocabulary.separator),
        )

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.owner)

    def completions(self, state: int, vocabulary: Vocabulary) -> Iterator[str | None]:
        """The texts that lead from a state to an end; a last None if there are too many to list."""
        stack = [(state, "")]
        for _ in range(MAX_COMPLETIONS):
            if not stack:
                return
            state, text = stack.pop()
            if self.ends[state] >= 0:
                yield text
            stack += [
                (target, text + vocabulary.texts[token])
                for token, target in self.machine.arcs[state].items()
                if target != state
            ]
        yield None

    def best_ahead(self, worth: NDArray[np.float32]) -> NDArray[np.float32]:
        """For each state the highest worth of the ends that it leads to; `worth`, (states,), is -inf for no end."""
        best = worth.copy()
        while True:
            before = best.copy()
            for state, arcs in enumerate(self.machine.arcs):
                if arcs:
                    best[state] = max(best[state], *(best[target] for target in arcs.values()))
            if np.array_equal(before, best):
                return best

    def longest(self, vocabulary: Vocabulary, *, words: bool = False) -> Ints:
        """Letters of the longest path through each state from start to end; `ENDLESS` where paths are unbounded.

        With `words`: letters of the longest word that is open in each state or may follow it.
        """
        texts = vocabulary.texts
        forward: list[list[_Arc]] = [[] for _ in self.machine.arcs]
        backward: list[list[_Arc]] = [[] for _ in self.machine.arcs]
        behind, ahead = np.zeros((2, len(forward)), np.intp)
        for state, arcs in enumerate(self.machine.arcs):
            for token, target in arcs.items():
                writes = int(bool(texts[token].strip()))
                at_boundary = texts[token] != texts[token].strip() or not vocabulary.separator
                if words and at_boundary:
                    behind[target] = max(behind[target], writes)
                    ahead[state] = max(ahead[state], writes)
                elif state != target:
                    forward[state].append((target, writes))
                    backward[target].append((state, writes))
        return np.minimum(_longest(forward, behind) + _longest(backward, ahead), ENDLESS)


def _longest(arcs: list[list[_Arc]], first: Ints) -> Ints:
    """Letters of the longest path to each state, `first` at its start; `ENDLESS` on cycles and after them."""
    incoming = [0] * len(arcs)
    for leaving in arcs:
        for target, _ in leaving:
            incoming[target] += 1
    longest = first.copy()
    ready = [state for state, count in enumerate(incoming) if not count]
    for state in ready:  # grows in the loop, in topological order
        for target, count in arcs[state]:
            longest[target] = max(longest[target], longest[state] + count)
            incoming[target] -= 1
            if not incoming[target]:
                ready.append(target)
    longest[np.flatnonzero(incoming)] = ENDLESS
    return longest
