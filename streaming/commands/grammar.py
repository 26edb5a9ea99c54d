"""The parser of command grammars.

    light: [turn | switch] (state: on | off) the (room: <room>) light      a command named light
    <room> = kitchen | living room | (bath | bathroom)=bath                a rule named room

A definition begins at the left margin and continues over indented lines; `#` begins a comment. `a b` is a sequence;
`a | b` is either; `[a]` is optional; `a+`, `a*`, `a{3}`, `a{2,4}` repeat; `(name: a)` is a slot; `a=value` gives `a` a
value in a slot, a number or a text. `<digit>`, `<digits>` and `<number 0..99>` are built in. A rule may use other
rules, but not itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn

from ..errors import GrammarError
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
    Value,
)

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
      | (?P<use><[^<>\n]*>) | (?P<count>[+*]|\{[^{}\n]*\}) | (?P<string>"[^"\n]*") | (?P<mark>[()\[\]|:=])
      | (?P<word>[^\s\#<>+*{}"()\[\]|:=]+)""",
    re.VERBOSE,
)
_USE: Final = re.compile(r"<\s*([^\s<>]+)(?:\s+(\d{1,9})\s*\.\.\s*(\d{1,9}))?\s*>")
_COUNT: Final = re.compile(r"\{\s*(\d{1,9})\s*(,?)\s*(\d{0,9})\s*\}")
_NAME: Final = re.compile(r"[^\W\d][\w-]*")
_INTEGER: Final = re.compile(r"-?\d{1,18}")
LONGEST: Final = 20_000  # characters of a grammar
_LONGEST_WORD: Final = 100  # characters
_MOST_REPEATS: Final = 1_000
_MOST_SUFFIXES: Final = 3  # of one word, rule or group
_DEEPEST: Final = 30  # brackets within brackets


def parse_grammar(text: str) -> CommandGrammar:
    """Parse a grammar. Raises `GrammarError`. References to rules are checked later, when the grammar is compiled."""
    if len(text) > LONGEST:
        _fail(f"the grammar has {len(text)} characters; the limit is {LONGEST}", NOWHERE)
    return _Parser(text).grammar()


class _Token(NamedTuple):
    kind: str  # use, count, string, mark, word, end
    text: str
    at: Position


class _Parser:
    """Recursive descent with one token of lookahead."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def grammar(self) -> CommandGrammar:
        grammar = CommandGrammar({})
        while (first := self._look()).kind != "end":
            if first.at.column != 1:
                _fail("a definition must begin at the left margin", first.at)
            if first.kind == "use":
                name, bounds = self._rule_ref(self._take())
                if bounds:
                    _fail("only <number> takes a range", first.at)
                self._mark("=", f"'=' after <{name}>")
                table = grammar.rules
            else:
                name = self._name("the name of a command or a <rule>")
                self._mark(":", f"':' after {name}")
                table = grammar.commands
                grammar.at.setdefault(name, first.at)
            if name in table:
                _fail(f"{first.text} is defined twice", first.at)
            table[name] = self._alternatives()
            if (after := self._look()).kind != "end" and after.at.column != 1:
                _fail(f"{after.text} does not belong here", after.at)
        if not grammar.commands:
            _fail("there is no command; write one as  name: words to say", NOWHERE)
        return grammar

    def _alternatives(self) -> Expression:
        options = [self._concatenation()]
        while self._is("|"):
            self._take()
            options.append(self._concatenation())
        return options[0] if len(options) == 1 else Alternatives(tuple(options))

    def _concatenation(self) -> Expression:
        parts: list[Expression] = []
        while (token := self._look()).kind in ("word", "use") or token.text in ("(", "["):
            if token.at.column == 1:
                break
            parts.append(self._suffixed())
        if not parts:
            what = "the grammar ends" if token.kind == "end" else f"there is {token.text}"
            _fail(f"words are missing: {what}", token.at)
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts))

    def _suffixed(self) -> Expression:
        body = self._atom()
        for _ in range(_MOST_SUFFIXES):
            if not self._is("=") and self._look().kind != "count":
                break
            token = self._take()
            body = Tagged(body, self._value()) if token.text == "=" else Repeat(body, *self._counted(token))
        return body

    def _atom(self) -> Expression:
        token = self._take()
        if token.kind == "word":
            if len(token.text) > _LONGEST_WORD:
                _fail(f"a word of more than {_LONGEST_WORD} characters", token.at)
            return Terminal(token.text, token.at)
        if token.kind == "use":
            return RuleRef(*self._rule_ref(token), token.at)
        self._depth += 1
        if self._depth > _DEEPEST:
            _fail(f"more than {_DEEPEST} brackets within each other", token.at)
        slot = ""
        if token.text == "(" and self._look(1).text == ":":
            slot = self._name("the name of a slot")
            self._take()
        body = self._alternatives()
        close = ")" if token.text == "(" else "]"
        self._mark(close, f"'{close}' for the '{token.text}' of line {token.at.line}, column {token.at.column}")
        self._depth -= 1
        if slot:
            return Capture(slot, body)
        return body if token.text == "(" else Repeat(body, 0, 1)

    def _value(self) -> Value:
        token = self._take()
        if token.kind == "string":
            return token.text[1:-1]
        if token.kind != "word" or token.at.column == 1:
            _fail("after '=' comes a number, a word or a \"text\"", token.at)
        return int(token.text) if _INTEGER.fullmatch(token.text) else token.text

    def _counted(self, token: _Token) -> tuple[int, int | None]:
        if token.text in "+*":
            return int(token.text == "+"), None
        match = _COUNT.fullmatch(token.text)
        if not match or (match[3] and not match[2]):
            _fail("a repetition is written {3}, {2,4} or {2,}", token.at)
        least = int(match[1])
        most = int(match[3]) if match[3] else None if match[2] else least
        if most == 0 or (most is not None and most < least) or max(least, most or 0) > _MOST_REPEATS:
            _fail(f"{token.text} is no range of repetitions up to {_MOST_REPEATS}", token.at)
        return least, most

    def _rule_ref(self, token: _Token) -> tuple[str, tuple[int, int] | None]:
        match = _USE.fullmatch(token.text)
        if not match:
            _fail(f"a rule is written <name> or <number 1..9>, not {token.text}", token.at)
        return match[1], (int(match[2]), int(match[3])) if match[2] else None

    def _name(self, what: str) -> str:
        token = self._take()
        if token.kind != "word" or not _NAME.fullmatch(token.text):
            _fail(f"expected {what}, not {token.text or 'the end'}", token.at)
        return token.text

    def _mark(self, text: str, what: str) -> None:
        token = self._look()
        if token.text != text or token.kind != "mark":
            _fail(f"expected {what}", token.at)
        self._take()

    def _is(self, mark: str) -> bool:
        return self._look().kind == "mark" and self._look().text == mark

    def _look(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self) -> _Token:
        token = self._look()
        self._next += 1
        return token


def _tokens(text: str) -> Iterator[_Token]:
    line, begun, at = 1, 0, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        here = Position(line, at - begun + 1)
        if match is None:
            _fail(f"{text[at]} is unmatched", here)
        if match.lastgroup != "skip":
            yield _Token(match.lastgroup or "", match[0], here)
        if "\n" in match[0]:
            line, begun = line + match[0].count("\n"), match.start() + match[0].rindex("\n") + 1
        at = match.end()
    yield _Token("end", "", Position(line, len(text) - begun + 1))


def _fail(message: str, at: Position) -> NoReturn:
    raise GrammarError(message, at.line, at.column)
