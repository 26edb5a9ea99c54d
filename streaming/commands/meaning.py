"""What the words of a command mean: a grammar as a network of words, and the slots that words fill in it.

The network is Thompson's: a node either demands a word or leads to others without one, the preferred one first; marks
on the way say where slots and values begin and end. Words are read by all threads at once and the first choice of the
grammar wins (R. Pike's machine, as R. Cox describes it in "Regular Expression Matching: the Virtual Machine Approach",
2009), so the time is linear in the words whatever the grammar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from ..ctc.spelling import Speller
from ..errors import GrammarError
from .budget import TooLarge, Work
from .grammar import NOWHERE, Choice, Expression, Grammar, Position, Repeat, Slot, Use, Value, Word, Worth
from .grammar import Sequence as Row
from .numbers import BUILT_IN, LARGEST, number

LARGEST_NETWORK: Final = 60_000  # nodes, and steps to find them
DEEPEST: Final = 150  # groups, repetitions and rules within each other
MOST_READING: Final = 200_000  # nodes that are looked at to tell what words mean


class Filled(NamedTuple):
    """A slot and what it holds; it was said in words `[first, last)` of the command."""

    name: str
    value: Value | list[Value]
    first: int
    last: int


class Meaning(NamedTuple):
    command: str
    slots: tuple[Filled, ...]

    def values(self) -> dict[str, Value | list[Value | list[Value]]]:
        """What each slot holds; a list where it was filled more than once."""
        values: dict[str, list[Value | list[Value]]] = {}
        for slot in self.slots:
            values.setdefault(slot.name, []).append(slot.value)
        return {name: _only(held) for name, held in values.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Mark:
    """On an arc without a word: where a slot or a value begins or ends, or a command ends."""

    of: Slot | Worth | str  # a string: the name of the command
    begins: bool = False


@dataclass(slots=True, eq=False)
class _Node:
    word: str | None = None  # as the vocabulary writes it
    said: str = ""  # the same as the grammar writes it
    mark: _Mark | None = None
    next: tuple[int, ...] = ()


_History = tuple["_History", _Mark | str] | None  # marks and words of a thread, the newest last


class Network:
    """A grammar in the spelling of one vocabulary.

    Raises `GrammarError` for unknown rules, rules that use themselves, words that the vocabulary cannot write,
    commands that need no word, and where all is too large.
    """

    def __init__(self, grammar: Grammar, speller: Speller) -> None:
        self._grammar = grammar
        self._speller = speller
        self._nodes: list[_Node] = []
        self._spelled: dict[str, str | None] = {}
        self._work = Work(LARGEST_NETWORK)
        self._depth = 0
        self._within: list[str] = []  # rules being unfolded
        self._at = NOWHERE  # the last rule that was used
        for body in (*grammar.commands.values(), *grammar.rules.values()):
            self._check_words(body)
        ends: list[int] = []
        for name, body in grammar.commands.items():
            after = self._add(_Node(mark=_Mark(name)))
            ends.append(self._build(body, after))
            if self.ends(self.closure(ends[-1], Work(LARGEST_NETWORK))):
                _fail(f"{name} could be said without a word", grammar.at.get(name, NOWHERE))
        for name in grammar.rules:
            self._expand(Use(name), None)  # what no command uses must be right too
        self.start = self._add(_Node(next=tuple(ends)))

    def closure(self, node: int, work: Work) -> tuple[int, ...]:
        """Nodes that demand a word or end a command and are reached without one, in order of preference."""
        return tuple(reached for reached, _ in self._follow([(node, None)], work))

    def ends(self, closure: Iterable[int]) -> bool:
        """Whether a command may end at one of these."""
        return any(self._nodes[node].mark for node in closure)

    def steps(self, closure: Iterable[int]) -> dict[str, tuple[int, ...]]:
        """The words that may come next and where they lead."""
        steps: dict[str, dict[int, None]] = {}
        for at in closure:
            node = self._nodes[at]
            if node.word is not None:
                steps.setdefault(node.word, {})[self._rest(node.next[0])] = None
        return {word: tuple(nodes) for word, nodes in steps.items()}

    def _rest(self, at: int) -> int:
        """The first node from here on at which there is a choice, a word or an end."""
        while (node := self._nodes[at]).word is None and len(node.next) == 1:
            at = node.next[0]
        return at

    def interpret(self, words: Sequence[str], work: Work | None = None) -> Meaning | None:
        """What the words, in the vocabulary's spelling, mean; None if they are no command, or far too many.

        Raises `TooLarge` where more `work` than is allowed for would be needed.
        """
        try:
            return self._interpret(words, work or Work(MOST_READING))
        except TooLarge:
            if work:
                raise
            return None

    def _interpret(self, words: Sequence[str], work: Work) -> Meaning | None:
        threads = self._follow([(self.start, None)], work)
        for word in words:
            work.take(len(threads))
            reached: list[tuple[int, _History]] = []
            for at, history in threads:
                node = self._nodes[at]
                if node.word == word:
                    reached.append((node.next[0], (history, node.said)))
            threads = self._follow(reached, work)
        for at, history in threads:
            mark = self._nodes[at].mark
            if mark is not None and isinstance(mark.of, str):
                return Meaning(mark.of, self._slots(history))
        return None

    def _follow(self, threads: list[tuple[int, _History]], work: Work) -> list[tuple[int, _History]]:
        """The threads after all the arcs that need no word; of those that meet, the first stays."""
        seen: set[int] = set()
        ready: list[tuple[int, _History]] = []
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
        work.take(len(seen))
        return ready

    def _slots(self, history: _History) -> tuple[Filled, ...]:
        """Replay what a thread met."""
        met: list[_Mark | str] = []
        while history is not None:
            history, last = history
            met.append(last)
        slots: list[Filled] = []
        open_: list[tuple[int, list[str | Worth]]] = [(0, [])]  # first word, and what was said since
        count = 0
        for each in reversed(met):
            if isinstance(each, str):
                open_[-1][1].append(each)
                count += 1
            elif each.begins:
                open_.append((count, []))
            else:
                first, said = open_.pop()
                if isinstance(each.of, Worth):
                    said = [each.of]
                elif isinstance(each.of, Slot):
                    slots.append(Filled(each.of.name, self._value(said), first, count))
                open_[-1][1].extend(said)
        return tuple(sorted(slots, key=lambda slot: (slot.first, -slot.last)))

    def _value(self, said: list[str | Worth]) -> Value | list[Value]:
        """One value as it is, texts worth something as one text, numbers as a list, anything else as words."""
        values = [part.value if isinstance(part, Worth) else part for part in said]
        if len(values) == 1:
            return values[0]
        if values and all(isinstance(value, int) for value in values):
            return values
        worth = all(isinstance(part, Worth) for part in said)
        return ("" if worth else self._speller.separator).join(str(value) for value in values)

    # ── from expressions to nodes, backwards: each is given the node after it ──

    def _build(self, expression: Expression, after: int) -> int:
        self._count()
        self._depth += 1
        if self._depth > DEEPEST:
            _fail(f"more than {DEEPEST} groups, repetitions and rules within each other", self._at)
        start = self._unfold(expression, after)
        self._depth -= 1
        return start

    def _unfold(self, expression: Expression, after: int) -> int:
        match expression:
            case Word():
                return self._word(expression, after)
            case Use():
                return self._expand(expression, after)
            case Row(parts):
                for part in reversed(parts):
                    after = self._build(part, after)
                return after
            case Choice(options):
                return self._add(_Node(next=tuple([self._build(option, after) for option in options])))
            case Repeat(body, least, most):
                return self._repeat(body, least, most, after)
            case Slot(_, body) | Worth(body, _):
                close = self._add(_Node(mark=_Mark(expression), next=(after,)))
                return self._add(_Node(mark=_Mark(expression, begins=True), next=(self._build(body, close),)))

    def _word(self, word: Word, after: int) -> int:
        spelled = self._spell(word.text) or ""
        if self._speller.separator:
            return self._add(_Node(spelled, word.text, next=(after,)))
        for index in reversed(range(len(spelled))):  # without boundaries every character is a unit of its own
            after = self._add(_Node(spelled[index], "" if index else word.text, next=(after,)))
        return after

    def _check_words(self, expression: Expression) -> None:
        """Refuse the first word that cannot be written."""
        match expression:
            case Word(text, at):
                if self._spell(text) is None:
                    unknown = " ".join(self._speller.unknown(text))
                    why = f"no {unknown}" if unknown else "not these letters in this order"
                    _fail(f"the model cannot write {text}: its vocabulary has {why} (write words as they are said)", at)
            case Use():
                pass
            case Row(parts) | Choice(parts):
                for part in parts:
                    self._check_words(part)
            case Repeat(body) | Slot(_, body) | Worth(body):
                self._check_words(body)

    def _repeat(self, body: Expression, least: int, most: int | None, after: int) -> int:
        if most is None:
            start = self._add(_Node())
            self._nodes[start].next = (self._build(body, start), after)
        else:
            start = after
            for _ in range(most - least):
                start = self._add(_Node(next=(self._build(body, start), after)))
        for _ in range(least):
            start = self._build(body, start)
        return start

    def _expand(self, use: Use, after: int | None) -> int:
        """The nodes of a rule; without `after` it is only looked at."""
        if use.at != NOWHERE:
            self._at = use.at
        body = self._grammar.rules.get(use.name, BUILT_IN.get(use.name))
        if use.bounds and use.name == "number":
            low, high = use.bounds
            if not low <= high <= LARGEST:
                _fail(f"<number {low}..{high}> is no range from 0 to {LARGEST}", use.at)
            body = number(low, high)
        elif body is None or use.bounds:
            _fail(f"there is no rule <{use.name}>{' with a range' if use.bounds else ''}", use.at)
        if use.name in self._within:
            _fail(f"the rule <{use.name}> uses itself", use.at)
        self._within.append(use.name)
        start = self._build(body, self._add(_Node()) if after is None else after)
        self._within.pop()
        return start

    def _spell(self, word: str) -> str | None:
        if word not in self._spelled:
            self._spelled[word] = self._speller.spell(word)
        return self._spelled[word]

    def _add(self, node: _Node) -> int:
        self._count()
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _count(self) -> None:
        try:
            self._work.take()
        except TooLarge:
            _fail("the grammar is too large when its rules and repetitions are written out", self._at)


def _only(held: list[Value | list[Value]]) -> Value | list[Value | list[Value]]:
    if len(held) > 1:
        return held
    return [*held[0]] if isinstance(held[0], list) else held[0]


def _fail(message: str, at: Position) -> NoReturn:
    raise GrammarError(message, at.line, at.column)
