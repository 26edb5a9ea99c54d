"""The shapes of batches."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Of a batch of steps or passes, in frames."""

    batch: int
    queries: int  # frames that go through the layers
    new: int  # frames that go through the CNN
    kept: int = 0  # the first queries, whose keys and values may stay in the cache

    @property
    def cost(self) -> tuple[int, int]:
        """Orders shapes by their work."""
        return self.batch * (self.queries + self.new), self.kept

    def covers(self, other: Shape) -> bool:
        """Whether a program of this shape can run a batch of the other."""
        return all(own >= least for own, least in zip(self, other, strict=True))
