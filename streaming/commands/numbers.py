"""The built-in rules of every grammar: spoken English digits and whole numbers."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from .expressions import Alternatives, Concatenation, Expression, Repeat, Tagged, Terminal, Value

# fmt: off
ONES: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
LARGEST: Final = 999

DIGIT: Final = Alternatives(
    (
        Tagged(Alternatives((Terminal("zero"), Terminal("oh"))), "0"),
        *(Tagged(Terminal(word), str(value)) for value, word in enumerate(ONES[1:10], 1)),
    )
)
BUILT_IN: Final[dict[str, Expression]] = {"digit": DIGIT, "digits": Repeat(DIGIT, 1, None)}


@lru_cache(maxsize=8)
def number(low: int, high: int) -> Expression:
    """`<number low..high>`: each number of the range with its value. `0 <= low <= high <= LARGEST`."""
    numbers = tuple(_tagged(spoken(value), value) for value in range(low, high + 1))
    return numbers[0] if len(numbers) == 1 else Alternatives(numbers)


def spoken(value: int) -> list[Expression]:
    """The words of a number; the "and" of "one hundred and two" is optional."""
    if value < 20:
        return [Terminal(ONES[value])]
    if value < 100:
        tens, rest = divmod(value, 10)
        return [Terminal(TENS[tens - 2]), *(spoken(rest) if rest else [])]
    hundreds, rest = divmod(value, 100)
    return [
        Terminal(ONES[hundreds]),
        Terminal("hundred"),
        *([Repeat(Terminal("and"), 0, 1), *spoken(rest)] if rest else []),
    ]


def _tagged(parts: list[Expression], value: Value) -> Tagged:
    return Tagged(parts[0] if len(parts) == 1 else Concatenation(tuple(parts)), value)
