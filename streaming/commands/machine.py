"""Deterministic finite automata of words, of letters and of tokens.

    words ─▶ automaton of words ─▶ of letters ─▶ of tokens

One or more boundaries separate words; boundaries may also stand at both ends.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Generic, TypeVar

from ..ctc.vocabulary import Vocabulary
from .budget import Budget, TooLarge
from .network import WordNetwork

MAX_SIZE: Final = 30_000  # states, or arcs, of each machine
MAX_VISITS: Final = 1_000_000  # nodes visited by the subset construction

Label = TypeVar("Label", bound=Hashable)


@dataclass(slots=True)
class Machine(Generic[Label]):
    """`arcs[s]` are the transitions from state `s`; `ends[s]` is its class of ends, -1 for none. State 0 starts."""

    arcs: list[dict[Label, int]]
    ends: list[int]


def from_network(network: WordNetwork) -> Machine[str]:
    """The word sequences of a grammar, by subset construction."""
    budget = Budget(MAX_VISITS)
    single: dict[int, tuple[int, ...]] = {}  # closures of single nodes
    reached: dict[tuple[int, ...], int] = {}  # states by the nodes that a word reaches

    def closure_of(nodes: tuple[int, ...]) -> tuple[int, ...]:
        for node in nodes:
            if node not in single:
                single[node] = network.closure(node, budget)
        if len(nodes) == 1:
            return single[nodes[0]]
        budget.spend(1 + sum(len(single[node]) for node in nodes) // 8)
        return tuple(dict.fromkeys(chain.from_iterable(single[node] for node in nodes)))

    first = closure_of((network.start,))
    index, closures = {first: 0}, [first]
    machine = Machine[str]([], [])
    count = 0
    for closure in closures:  # grows in the loop
        arcs: dict[str, int] = {}
        for word, nodes in network.steps(closure).items():
            budget.spend(len(nodes))
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
        check_size(max(count, len(closures)))
    return machine


def from_phrases(phrases: Iterable[tuple[Sequence[str], int]]) -> Machine[str]:
    """A trie of phrases; each phrase is a sequence of words and a class of ends."""
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
        check_size(len(machine.arcs))
    return machine.arcs[at][label]


def minimal(machine: Machine[Label]) -> Machine[Label]:
    """The smallest machine of the same language (Hopcroft 1971).

    Groups of states are split until all states of a group lead to the same groups. After a split only the smaller half
    is queued, which bounds the cost for long chains of states.
    """
    into: list[dict[Label, list[int]]] = [{} for _ in machine.arcs]
    for state, arcs in enumerate(machine.arcs):
        for label, target in arcs.items():
            into[target].setdefault(label, []).append(state)
    group = _numbered(machine.ends)
    members: list[set[int]] = [set() for _ in range(max(group) + 1)]
    for state, number in enumerate(group):
        members[number].add(state)
    queue = list(range(len(members)))
    while queue:
        leading: dict[Label, list[int]] = {}  # states that lead into the group
        for state in members[queue.pop()]:
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
                queue.append(len(members))  # if the whole group is queued, the rest of it stays queued
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
    """A number for each key, in the order of first occurrence."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def letters(words: Machine[str], separator: str) -> Machine[str]:
    """The same word sequences as characters, with boundaries before, between and after words.

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
class _TokenTrie:
    """Tokens by their letters."""

    tokens: list[int] = field(default_factory=list[int])  # tokens that end at this node
    longer: dict[str, _TokenTrie] = field(default_factory=dict[str, "_TokenTrie"])


def tokens(machine: Machine[str], vocabulary: Vocabulary) -> Machine[int]:
    """The same texts, in every token sequence that writes them."""
    root = _TokenTrie()
    for token, text in enumerate(vocabulary.texts):
        if text and token != vocabulary.blank:
            node = root
            for letter in text:
                node = node.longer.setdefault(letter, _TokenTrie())
            node.tokens.append(token)
    result = Machine[int]([], [])
    index, states = {0: 0}, [0]
    count = 0
    for state in states:  # grows in the loop
        arcs: dict[int, int] = {}
        read = [(state, root)]
        for at, node in read:  # grows in the loop
            for letter, target in machine.arcs[at].items():
                if (longer := node.longer.get(letter)) is not None:
                    if longer.longer:
                        read.append((target, longer))
                    if longer.tokens and target not in index:
                        index[target] = len(states)
                        states.append(target)
                    arcs.update((token, index[target]) for token in longer.tokens)
        count += len(arcs)
        check_size(count)
        result.arcs.append(arcs)
        result.ends.append(machine.ends[state])
    return result


def check_size(count: int, limit: int = MAX_SIZE) -> None:
    if count > limit:
        raise TooLarge(f"more than {limit} states")
