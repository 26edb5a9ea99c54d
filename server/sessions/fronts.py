"""What one of several fronts knows of the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..access.ledger import Ledger
from ..net.board import Board


@dataclass(frozen=True, slots=True)
class Fronts:
    """Of front `number` of `count`. All of it lies in the private folder of the server."""

    number: int
    count: int
    folder: Path
    ledger: Ledger
    board: Board

    @classmethod
    def open(cls, folder: Path, count: int, number: int) -> Self:
        return cls(number, count, folder, Ledger(folder / "ledger", number), Board(folder / "board", count, number))

    def key(self, secret: str) -> str:
        """A key to something that this front holds, which the other fronts see."""
        return f"{self.number}.{secret}"

    def owner(self, key: str) -> int | None:
        """The other front that holds what this is a key to; None for an own or an invalid key."""
        number, dot, _ = key.partition(".")
        other = dot and number.isascii() and number.isdecimal() and len(number) < 4 and int(number) != self.number
        return int(number) if other and int(number) < self.count else None

    def address(self, front: int) -> str:
        """The private address of a front."""
        return str(self.folder / f"front-{front}")
