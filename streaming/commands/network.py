"""A grammar as a network of words, and the interpretation of word sequences in it.

The network is Thompson's: a node either requires a word or leads to other nodes without one, the preferred node first;
marks show where slots and values begin and end. Interpretation follows all threads at once, and the first choice of the
grammar wins (R. Pike's machine, see R. Cox, "Regular Expression Matching: the Virtual Machine Approach", 2009), so the
time is linear in the number of words for every grammar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .budget import Budget, TooLarge
from .meaning import History, Mark, Meaning, filled_slots

MAX_READING: Final = 200_000  # nodes visited to interpret a word sequence


@dataclass(slots=True, eq=False)
class Node:
    """A node of the word network, with edges to the nodes in `next`."""

    word: str | None = None  # in the vocabulary's spelling
    written: str = ""  # the same word as in the grammar
    mark: Mark | None = None
    next: tuple[int, ...] = ()


class WordNetwork:
    """Nodes and the start node; made by `network_builder.build_network`."""

    def __init__(self, nodes: list[Node], start: int, separator: str) -> None:
        self.start = start
        self._nodes = nodes
        self._separator = separator

    def closure(self, node: int, budget: Budget) -> tuple[int, ...]:
        """The nodes that require a word or end a command and are reached without a word, in order of preference."""
        return tuple(reached for reached, _ in self._follow([(node, None)], budget))

    def ends(self, closure: Iterable[int]) -> bool:
        """Whether a command may end at one of these nodes."""
        return any(self._nodes[node].mark for node in closure)

    def steps(self, closure: Iterable[int]) -> dict[str, tuple[int, ...]]:
        """The possible next words and the nodes that they lead to."""
        steps: dict[str, dict[int, None]] = {}
        for at in closure:
            node = self._nodes[at]
            if node.word is not None:
                steps.setdefault(node.word, {})[self._skip(node.next[0])] = None
        return {word: tuple(nodes) for word, nodes in steps.items()}

    def _skip(self, at: int) -> int:
        """The first node from here on with a choice, a word or an end."""
        while (node := self._nodes[at]).word is None and len(node.next) == 1:
            at = node.next[0]
        return at

    def interpret(self, words: Sequence[str], budget: Budget | None = None) -> Meaning | None:
        """The meaning of words in the vocabulary's spelling; None if they are no command.

        Without a budget, a sequence that takes too many steps is no command; with one it raises `TooLarge`.
        """
        try:
            return self._interpret(words, budget or Budget(MAX_READING))
        except TooLarge:
            if budget:
                raise
            return None

    def _interpret(self, words: Sequence[str], budget: Budget) -> Meaning | None:
        threads = self._follow([(self.start, None)], budget)
        for word in words:
            budget.spend(len(threads))
            reached: list[tuple[int, History]] = []
            for at, history in threads:
                node = self._nodes[at]
                if node.word == word:
                    reached.append((node.next[0], (history, node.written)))
            threads = self._follow(reached, budget)
        for at, history in threads:
            mark = self._nodes[at].mark
            if mark is not None and isinstance(mark.of, str):
                return Meaning(mark.of, filled_slots(history, self._separator))
        return None

    def _follow(self, threads: list[tuple[int, History]], budget: Budget) -> list[tuple[int, History]]:
        """The threads after all arcs without a word; where threads meet, the first one stays."""
        seen: set[int] = set()
        ready: list[tuple[int, History]] = []
        stack = threads[::-1]
        while stack:
            at, history = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            node = self._nodes[at]
            if node.word is not None or not node.next:
                ready.append((at, history))
                continue
            if node.mark is not None:
                history = (history, node.mark)
            stack += [(target, history) for target in reversed(node.next)]
        budget.spend(len(seen))
        return ready
