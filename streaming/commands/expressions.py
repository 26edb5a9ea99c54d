"""The syntax tree of a command grammar, and its text form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

Value = int | str


class Position(NamedTuple):
    """A place in a grammar's text."""

    line: int  # from 1
    column: int  # from 1


NOWHERE: Final = Position(1, 1)  # position of an expression that was not parsed from text


@dataclass(frozen=True, slots=True)
class Terminal:
    """A word."""

    text: str
    at: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class RuleRef:
    """`<name>` or `<name 1..9>`."""

    name: str
    bounds: tuple[int, int] | None = None
    at: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Concatenation:
    """One part after the other."""

    parts: tuple[Expression, ...]  # at least two


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of several options."""

    options: tuple[Expression, ...]  # at least two; the first that fits the words wins


@dataclass(frozen=True, slots=True)
class Repeat:
    """The body, `least` to `most` times."""

    body: Expression
    least: int
    most: int | None  # None: unbounded


@dataclass(frozen=True, slots=True)
class Capture:
    """`(name: body)`, a slot."""

    name: str
    body: Expression


@dataclass(frozen=True, slots=True)
class Tagged:
    """`body=value`: in a slot, the body has this value."""

    body: Expression
    value: Value


Expression = Terminal | RuleRef | Concatenation | Alternatives | Repeat | Capture | Tagged


@dataclass(frozen=True, slots=True)
class CommandGrammar:
    """Commands and rules by name, in the order of their definition. `str` prints text for `parse_grammar`."""

    commands: dict[str, Expression]
    rules: dict[str, Expression] = field(default_factory=dict[str, Expression])
    at: dict[str, Position] = field(default_factory=dict[str, Position], compare=False)  # of commands

    def words(self) -> dict[str, None]:
        """All different words, in the order of their first use."""
        found: dict[str, None] = {}
        stack = [*self.rules.values(), *self.commands.values()][::-1]
        while stack:
            match expression := stack.pop():
                case Terminal(text):
                    found.setdefault(text)
                case RuleRef():
                    pass
                case Concatenation(parts) | Alternatives(parts):
                    stack += reversed(parts)
                case _:
                    stack.append(expression.body)
        return found

    def __str__(self) -> str:
        lines = [f"{name}: {_show(body)}" for name, body in self.commands.items()]
        lines += [f"<{name}> = {_show(body)}" for name, body in self.rules.items()]
        return "\n".join(lines) + "\n"


def _show(expression: Expression, tight: bool = False) -> str:
    """The text of an expression. `tight`: in brackets if a suffix after it would bind only to its last part."""
    match expression:
        case Terminal(text):
            return text
        case RuleRef(name, bounds):
            return f"<{name} {bounds[0]}..{bounds[1]}>" if bounds else f"<{name}>"
        case Capture(name, body):
            return f"({name}: {_show(body)})"
        case Repeat(body, 0, 1):
            return f"[{_show(body)}]"
        case Repeat(body, least, most):
            shown = _show(body, tight=True) + _show_count(least, most)
        case Tagged(body, value):
            shown = f"{_show(body, tight=True)}=" + (f'"{value}"' if isinstance(value, str) else str(value))
        case Concatenation(parts):
            shown = " ".join(
                f"({_show(part)})" if isinstance(part, Concatenation | Alternatives) else _show(part) for part in parts
            )
        case Alternatives(options):
            shown = " | ".join(
                f"({_show(option)})" if isinstance(option, Alternatives) else _show(option) for option in options
            )
    return f"({shown})" if tight else shown


def _show_count(least: int, most: int | None) -> str:
    if most is None:
        return {0: "*", 1: "+"}.get(least, f"{{{least},}}")
    return f"{{{least}}}" if least == most else f"{{{least},{most}}}"
