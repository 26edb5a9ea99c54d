"""The rules that every grammar has: digits and whole numbers, as they are said in English."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from .grammar import Choice, Expression, Repeat, Sequence, Value, Word, Worth

# fmt: off
ONES: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
LARGEST: Final = 999

DIGIT: Final = Choice(
    (
        Worth(Choice((Word("zero"), Word("oh"))), "0"),
        *(Worth(Word(word), str(value)) for value, word in enumerate(ONES[1:10], 1)),
    )
)
BUILT_IN: Final[dict[str, Expression]] = {"digit": DIGIT, "digits": Repeat(DIGIT, 1, None)}


@lru_cache(maxsize=8)
def number(low: int, high: int) -> Expression:
    """`<number low..high>`: each number of the range, worth itself. `0 <= low <= high <= LARGEST`."""
    numbers = tuple(_worth(spoken(value), value) for value in range(low, high + 1))
    return numbers[0] if len(numbers) == 1 else Choice(numbers)


def spoken(value: int) -> list[Expression]:
    """The words of a number; the "and" of "one hundred and two" may be left out."""
    if value < 20:
        return [Word(ONES[value])]
    if value < 100:
        tens, rest = divmod(value, 10)
        return [Word(TENS[tens - 2]), *(spoken(rest) if rest else [])]
    hundreds, rest = divmod(value, 100)
    return [Word(ONES[hundreds]), Word("hundred"), *([Repeat(Word("and"), 0, 1), *spoken(rest)] if rest else [])]


def _worth(parts: list[Expression], value: Value) -> Worth:
    return Worth(parts[0] if len(parts) == 1 else Sequence(tuple(parts)), value)
