"""A limit to what one grammar may cost, counted in steps and not in seconds: the same one always gets as far."""

from __future__ import annotations


class TooLarge(ValueError):
    """Something takes more steps, or has more parts, than it may."""


class Work:
    """So many steps may be taken and no more. Raises `TooLarge`."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooLarge("too many steps")
