"""A limit on the cost of one grammar, in steps, not seconds, so that the result never depends on the machine."""

from __future__ import annotations


class TooLarge(ValueError):
    """Something takes more steps or has more parts than its limit."""


class Budget:
    """A number of steps. Spending more raises `TooLarge`."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def spend(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooLarge("too many steps")
