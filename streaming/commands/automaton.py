"""Token sequences as a minimal deterministic automaton, laid out for Viterbi with the topology of CTC.

    words ─▶ automaton of words ─▶ of letters ─▶ of tokens ─▶ arrays

Words are separated by one boundary or more, and boundaries may stand at either end. Every state of the automaton has a
cell for the blank and one for each token by which it is entered: cells are what frames are spent in. A cell is
followed by itself, by the blank of its state and by the tokens that leave its state; a token follows itself only after
a blank.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..ctc.vocabulary import BOUNDARY, Vocabulary
from .budget import TooLarge, Work
from .meaning import Network

LARGEST: Final = 30_000  # states, or arcs, of each machine on the way
MOST_PAIRS: Final = 300_000  # of a token into a state and another one out of it, where one must not follow itself
MOST_VISITS: Final = 1_000_000  # of nodes, while states are found that sequences of words lead to
MOST_COMPLETIONS: Final = 500  # steps
ENDLESS: Final = 1_000_000  # letters

Label = TypeVar("Label", bound=Hashable)
Ints = NDArray[np.intp]
_Arc = tuple[int, int]  # target, letters
Bools = NDArray[np.bool_]


@dataclass(slots=True)
class Machine(Generic[Label]):
    """Deterministic: `arcs[s]` leads from state `s`; it starts in 0; `ends[s]` is a class of ends, or -1 for none."""

    arcs: list[dict[Label, int]]
    ends: list[int]


def from_network(network: Network) -> Machine[str]:
    """The word sequences of a grammar (subset construction)."""
    work = Work(MOST_VISITS)
    single: dict[int, tuple[int, ...]] = {}  # closures of single nodes
    reached: dict[tuple[int, ...], int] = {}  # states by the nodes that their words lead to

    def closure_of(nodes: tuple[int, ...]) -> tuple[int, ...]:
        for node in nodes:
            if node not in single:
                single[node] = network.closure(node, work)
        if len(nodes) == 1:
            return single[nodes[0]]
        work.take(1 + sum(len(single[node]) for node in nodes) // 8)
        return tuple(dict.fromkeys(chain.from_iterable(single[node] for node in nodes)))

    first = closure_of((network.start,))
    index, closures = {first: 0}, [first]
    machine = Machine[str]([], [])
    count = 0
    for closure in closures:  # grows on the way
        arcs: dict[str, int] = {}
        for word, nodes in network.steps(closure).items():
            work.take(len(nodes))
            if nodes not in reached:
                found = closure_of(nodes)
                if found not in index:
                    index[found] = len(closures)
                    closures.append(found)
                reached[nodes] = index[found]
            arcs[word] = reached[nodes]
        machine.arcs.append(arcs)
        machine.ends.append(0 if network.ends(closure) else -1)
        count += len(arcs)
        _check(max(count, len(closures)))
    return machine


def from_phrases(phrases: Iterable[tuple[Sequence[str], int]]) -> Machine[str]:
    """Phrases, each a sequence of words and the class of its end."""
    machine = Machine[str]([{}], [-1])
    for words, end in phrases:
        at = 0
        for word in words:
            at = _child(machine, at, word)
        machine.ends[at] = end
    return machine


def _child(machine: Machine[str], at: int, label: str) -> int:
    if label not in machine.arcs[at]:
        machine.arcs[at][label] = len(machine.arcs)
        machine.arcs.append({})
        machine.ends.append(-1)
        _check(len(machine.arcs))
    return machine.arcs[at][label]


def minimal(machine: Machine[Label]) -> Machine[Label]:
    """The smallest machine of the same language (Hopcroft 1971): groups of states are split until all of a group lead
    to the same groups. What was split is looked at again by its smaller half alone, so no chain of states is too long.
    """
    into: list[dict[Label, list[int]]] = [{} for _ in machine.arcs]
    for state, arcs in enumerate(machine.arcs):
        for label, target in arcs.items():
            into[target].setdefault(label, []).append(state)
    group = _numbered(machine.ends)
    members: list[set[int]] = [set() for _ in range(max(group) + 1)]
    for state, number in enumerate(group):
        members[number].add(state)
    waiting = list(range(len(members)))
    while waiting:
        leading: dict[Label, list[int]] = {}  # states that lead into the group
        for state in members[waiting.pop()]:
            for label, sources in into[state].items():
                leading.setdefault(label, []).extend(sources)
        for sources in leading.values():
            parts: dict[int, list[int]] = {}
            for state in sources:
                parts.setdefault(group[state], []).append(state)
            for number, part in parts.items():
                whole = members[number]
                if len(part) == len(whole):
                    continue
                smaller = set(part) if 2 * len(part) <= len(whole) else whole.difference(part)
                whole -= smaller
                for state in smaller:
                    group[state] = len(members)
                waiting.append(len(members))  # if the whole still waits, so does the rest of it
                members.append(smaller)
    group = _numbered(group)
    size = max(group) + 1
    merged: list[dict[Label, int]] = [{} for _ in range(size)]
    ends = [-1] * size
    for state, target in enumerate(group):
        merged[target] = {label: group[to] for label, to in machine.arcs[state].items()}
        ends[target] = machine.ends[state]
    return Machine(merged, ends)


def _numbered(keys: Iterable[Hashable]) -> list[int]:
    """A number for each key, counted in the order in which they first occur."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def letters(words: Machine[str], separator: str) -> Machine[str]:
    """The same word sequences as characters; boundaries are read before, between and after words.

    Without a separator every word must be one character.
    """
    if not separator:
        return words
    machine = Machine[str]([{separator: gap} for gap in range(len(words.arcs))], list(words.ends))
    for gap, arcs in enumerate(words.arcs):
        for word, target in arcs.items():
            at = gap
            for letter in word:
                at = _child(machine, at, letter)
            machine.arcs[at][separator] = target
            machine.ends[at] = words.ends[target]
    return machine


@dataclass(slots=True)
class _Spelling:
    """Tokens by their letters, as a tree."""

    tokens: list[int] = field(default_factory=list[int])  # that are written so far and no further
    longer: dict[str, _Spelling] = field(default_factory=dict[str, "_Spelling"])


def tokens(machine: Machine[str], vocabulary: Vocabulary) -> Machine[int]:
    """The same texts, in every way in which tokens can write them."""
    root = _Spelling()
    for token, text in enumerate(vocabulary.texts):
        if text and token != vocabulary.blank:
            spelling = root
            for letter in text:
                spelling = spelling.longer.setdefault(letter, _Spelling())
            spelling.tokens.append(token)
    result = Machine[int]([], [])
    index, states = {0: 0}, [0]
    count = 0
    for state in states:  # grows on the way
        arcs: dict[int, int] = {}
        read = [(state, root)]
        for at, spelling in read:  # grows on the way
            for letter, target in machine.arcs[at].items():
                if (longer := spelling.longer.get(letter)) is not None:
                    if longer.longer:
                        read.append((target, longer))
                    if longer.tokens and target not in index:
                        index[target] = len(states)
                        states.append(target)
                    arcs.update((token, index[target]) for token in longer.tokens)
        count += len(arcs)
        _check(count)
        result.arcs.append(arcs)
        result.ends.append(machine.ends[state])
    return result


def _check(count: int, most: int = LARGEST) -> None:
    if count > most:
        raise TooLarge(f"more than {most} states")


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """Token sequences as arrays. Cells of a state lie together, the blank's first; arcs into a cell lie together.

    An arc whose source has a cell of the same token must not be taken from that cell: those arcs are `doubled`, and
    `other_cells` are the cells that remain to them, from `other_first` on.
    """

    machine: Machine[int]
    first: Ints  # (states,) cell of the blank
    owner: Ints  # (cells,) state
    token: Ints  # (cells,)
    entered: Ints  # (token cells,) the cells that are not a blank's
    arc_source: Ints  # (arcs,) state
    arc_first: Ints  # (token cells,) first arc into the cell
    doubled: Ints  # (doubled arcs,) arcs
    other_first: Ints  # (doubled arcs,)
    other_cells: Ints
    starting: Ints  # arcs that leave state 0
    ends: Ints  # (states,) class of ends, or -1
    bounded: Bools  # (states,) entered by a boundary only: no word is open there

    @classmethod
    def build(cls, words: Machine[str], vocabulary: Vocabulary) -> Automaton:
        """Of word sequences in the vocabulary's spelling. Raises `TooLarge`."""
        return cls.lay_out(tokens(minimal(letters(minimal(words), vocabulary.separator)), vocabulary), vocabulary)

    @classmethod
    def lay_out(cls, machine: Machine[int], vocabulary: Vocabulary) -> Automaton:
        """Of token sequences."""
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
        _check(sum(len(into[arcs[at][0]]) for at in doubled), MOST_PAIRS)
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
        """The texts that lead from a state to an end; None in the place of those that are too many to tell."""
        stack = [(state, "")]
        for _ in range(MOST_COMPLETIONS):
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
        """The most that an end which a state leads to is worth; `worth`, (states,), is -inf for what is none."""
        best = worth.copy()
        while True:
            before = best.copy()
            for state, arcs in enumerate(self.machine.arcs):
                if arcs:
                    best[state] = max(best[state], *(best[target] for target in arcs.values()))
            if np.array_equal(before, best):
                return best

    def longest(self, vocabulary: Vocabulary, *, words: bool = False) -> Ints:
        """Letters of the longest way through each state from start to end; `ENDLESS` where there is none.

        With `words`, of the longest word that is open in each state or may follow it.
        """
        texts = vocabulary.texts
        forward: list[list[_Arc]] = [[] for _ in self.machine.arcs]
        backward: list[list[_Arc]] = [[] for _ in self.machine.arcs]
        behind, ahead = np.zeros((2, len(forward)), np.intp)
        for state, arcs in enumerate(self.machine.arcs):
            for token, target in arcs.items():
                writes = int(bool(texts[token].strip()))
                if words and (
                    texts[token] != texts[token].strip() or not vocabulary.separator
                ):  # a word ends or begins
                    behind[target] = max(behind[target], writes)
                    ahead[state] = max(ahead[state], writes)
                elif state != target:
                    forward[state].append((target, writes))
                    backward[target].append((state, writes))
        return np.minimum(_longest(forward, behind) + _longest(backward, ahead), ENDLESS)


def _longest(arcs: list[list[_Arc]], first: Ints) -> Ints:
    """Letters of the longest way to each state, `first` at its beginning; `ENDLESS` on cycles and after them."""
    waits = [0] * len(arcs)
    for leaving in arcs:
        for target, _ in leaving:
            waits[target] += 1
    longest = first.copy()
    ready = [state for state, count in enumerate(waits) if not count]
    for state in ready:  # grows on the way, in topological order
        for target, letters in arcs[state]:
            longest[target] = max(longest[target], longest[state] + letters)
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)
    longest[np.flatnonzero(waits)] = ENDLESS
    return longest
