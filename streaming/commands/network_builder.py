"""Builds the word network of a grammar in the spelling of one vocabulary."""

from __future__ import annotations

from typing import Final, NoReturn

from ..ctc.spelling import Speller
from ..errors import GrammarError
from .budget import Budget, TooLarge
from .expressions import (
    NOWHERE,
    Alternatives,
    Capture,
    CommandGrammar,
    Concatenation,
    Expression,
    Position,
    Repeat,
    RuleRef,
    Tagged,
    Terminal,
)
from .meaning import Mark
from .network import Node, WordNetwork
from .numbers import BUILT_IN, LARGEST, number

MAX_NODES: Final = 60_000  # and steps to build them
MAX_DEPTH: Final = 150  # nested groups, repetitions and rules


def build_network(grammar: CommandGrammar, speller: Speller) -> WordNetwork:
    """Build the network of a grammar.

    Raises `GrammarError` for unknown or recursive rules, for words that the vocabulary cannot write, for commands
    without a required word, and for grammars that unfold to too many nodes.
    """
    return _Builder(grammar, speller).build()


class _Builder:
    """Builds nodes from expressions, backwards: each expression receives the node that follows it."""

    def __init__(self, grammar: CommandGrammar, speller: Speller) -> None:
        self._grammar = grammar
        self._speller = speller
        self._nodes: list[Node] = []
        self._spelled: dict[str, list[str] | None] = {}
        self._budget = Budget(MAX_NODES)
        self._depth = 0
        self._open_rules: list[str] = []
        self._last_rule = NOWHERE  # position of the last reference to a rule

    def build(self) -> WordNetwork:
        grammar = self._grammar
        for body in (*grammar.commands.values(), *grammar.rules.values()):
            self._check_words(body)
        starts: list[int] = []
        network = WordNetwork(self._nodes, 0, self._speller.separator)
        for name, body in grammar.commands.items():
            after = self._add(Node(mark=Mark(name)))
            starts.append(self._expression(body, after))
            if network.ends(network.closure(starts[-1], Budget(MAX_NODES))):
                _fail(f"{name} could be said without a word", grammar.at.get(name, NOWHERE))
        for name in grammar.rules:
            self._rule(RuleRef(name), None)  # also checks rules that no command uses
        network.start = self._add(Node(next=tuple(starts)))
        return network

    def _expression(self, expression: Expression, after: int) -> int:
        self._spend()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _fail(f"more than {MAX_DEPTH} groups, repetitions and rules within each other", self._last_rule)
        start = self._unfold(expression, after)
        self._depth -= 1
        return start

    def _unfold(self, expression: Expression, after: int) -> int:
        match expression:
            case Terminal():
                return self._word(expression, after)
            case RuleRef():
                return self._rule(expression, after)
            case Concatenation(parts):
                for part in reversed(parts):
                    after = self._expression(part, after)
                return after
            case Alternatives(options):
                return self._add(Node(next=tuple([self._expression(option, after) for option in options])))
            case Repeat(body, least, most):
                return self._repeat(body, least, most, after)
            case Capture(_, body) | Tagged(body, _):
                close = self._add(Node(mark=Mark(expression), next=(after,)))
                return self._add(Node(mark=Mark(expression, begins=True), next=(self._expression(body, close),)))

    def _word(self, word: Terminal, after: int) -> int:
        units = self._spell(word.text) or []
        for index in reversed(range(len(units))):  # several where the vocabulary lacks a hyphen or has no boundaries
            after = self._add(Node(units[index], "" if index else word.text, next=(after,)))
        return after

    def _check_words(self, expression: Expression) -> None:
        """Raise `GrammarError` for the first word that the vocabulary cannot write."""
        match expression:
            case Terminal(text, at):
                if not self._spell(text):
                    unknown = " ".join(
                        char for unit in self._speller.units(text) for char in self._speller.unknown(unit)
                    )
                    why = f"no {unknown}" if unknown else "not these letters in this order"
                    _fail(f"the model cannot write {text}: its vocabulary has {why} (write words as they are said)", at)
            case RuleRef():
                pass
            case Concatenation(parts) | Alternatives(parts):
                for part in parts:
                    self._check_words(part)
            case Repeat(body) | Capture(_, body) | Tagged(body):
                self._check_words(body)

    def _repeat(self, body: Expression, least: int, most: int | None, after: int) -> int:
        if most is None:
            start = self._add(Node())
            self._nodes[start].next = (self._expression(body, start), after)
        else:
            start = after
            for _ in range(most - least):
                start = self._add(Node(next=(self._expression(body, start), after)))
        for _ in range(least):
            start = self._expression(body, start)
        return start

    def _rule(self, reference: RuleRef, after: int | None) -> int:
        """The nodes of a rule; `after` None only checks it."""
        if reference.at != NOWHERE:
            self._last_rule = reference.at
        body = self._grammar.rules.get(reference.name, BUILT_IN.get(reference.name))
        if reference.bounds and reference.name == "number":
            low, high = reference.bounds
            if not low <= high <= LARGEST:
                _fail(f"<number {low}..{high}> is no range from 0 to {LARGEST}", reference.at)
            body = number(low, high)
        elif body is None or reference.bounds:
            _fail(f"there is no rule <{reference.name}>{' with a range' if reference.bounds else ''}", reference.at)
        if reference.name in self._open_rules:
            _fail(f"the rule <{reference.name}> uses itself", reference.at)
        self._open_rules.append(reference.name)
        start = self._expression(body, self._add(Node()) if after is None else after)
        self._open_rules.pop()
        return start

    def _spell(self, word: str) -> list[str] | None:
        """The units of a word in the vocabulary's spelling; None if it cannot write one of them."""
        if word not in self._spelled:
            units = [self._speller.spell(unit) for unit in self._speller.units(word)]
            self._spelled[word] = None if None in units else [unit or "" for unit in units]
        return self._spelled[word]

    def _add(self, node: Node) -> int:
        self._spend()
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _spend(self) -> None:
        try:
            self._budget.spend()
        except TooLarge:
            _fail("the grammar is too large when its rules and repetitions are written out", self._last_rule)


def _fail(message: str, at: Position) -> NoReturn:
    raise GrammarError(message, at.line, at.column)
