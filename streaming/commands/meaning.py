"""The meaning of a command: its name and the slots that its words fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .expressions import Capture, Tagged, Value


class FilledSlot(NamedTuple):
    """A slot and its value, from words `[first, last)` of the command."""

    name: str
    value: Value | list[Value]
    first: int
    last: int


class Meaning(NamedTuple):
    """A command with its filled slots."""

    command: str
    slots: tuple[FilledSlot, ...]

    def values(self) -> dict[str, Value | list[Value | list[Value]]]:
        """The value of each slot; a list if the command fills it more than once."""
        values: dict[str, list[Value | list[Value]]] = {}
        for slot in self.slots:
            values.setdefault(slot.name, []).append(slot.value)
        return {name: _single(held) for name, held in values.items()}

    def same_effect(self, other: Meaning) -> bool:
        """Whether both name the same command with the same slot values, whatever their words."""
        return self._effect() == other._effect()

    def _effect(self) -> tuple[str, list[tuple[str, object]]]:
        return self.command, [(slot.name, slot.value) for slot in self.slots]


def _single(held: list[Value | list[Value]]) -> Value | list[Value | list[Value]]:
    if len(held) > 1:
        return held
    return [*held[0]] if isinstance(held[0], list) else held[0]


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """The start or end of a slot or value, or the end of a command, on an arc without a word."""

    of: Capture | Tagged | str  # a string: the name of the command
    begins: bool = False


History = tuple["History", Mark | str] | None  # the marks and words of a thread, the newest last


def filled_slots(history: History, separator: str) -> tuple[FilledSlot, ...]:
    """Replay the marks and words of a thread; `separator` joins the words of a value."""
    steps: list[Mark | str] = []
    while history is not None:
        history, last = history
        steps.append(last)
    slots: list[FilledSlot] = []
    stack: list[tuple[int, list[str | Tagged]]] = [(0, [])]  # open groups: first word, content
    count = 0
    for step in reversed(steps):
        if isinstance(step, str):
            if step:  # only the first unit of a word carries its text
                stack[-1][1].append(step)
            count += 1
        elif step.begins:
            stack.append((count, []))
        else:
            first, content = stack.pop()
            if isinstance(step.of, Tagged):
                content = [step.of]
            elif isinstance(step.of, Capture):
                slots.append(FilledSlot(step.of.name, _value(content, separator), first, count))
            stack[-1][1].extend(content)
    return tuple(sorted(slots, key=lambda slot: (slot.first, -slot.last)))


def _value(content: list[str | Tagged], separator: str) -> Value | list[Value]:
    """A single value unchanged, several numbers as a list, several texts as one text, anything else as words."""
    values = [part.value if isinstance(part, Tagged) else part for part in content]
    if len(values) == 1:
        return values[0]
    if values and all(isinstance(value, int) for value in values):
        return values
    tagged = all(isinstance(part, Tagged) for part in content)
    return ("" if tagged else separator).join(str(value) for value in values)
