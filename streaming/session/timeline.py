"""A setting that may change during the stream."""

from __future__ import annotations

from bisect import bisect_left
from typing import Generic, TypeVar

T = TypeVar("T")


class Timeline(Generic[T]):
    """Values of a setting, each with the sample after which it holds."""

    def __init__(self, value: T) -> None:
        self._values = [(-1, value)]

    def set(self, value: T, at: int) -> None:
        """Hold after sample `at`, which is not before those of earlier values."""
        if self._values[-1][0] == at:
            self._values.pop()
        self._values.append((at, value))

    def at(self, sample: int) -> T:
        """The value for audio that ends at a sample."""
        return self._values[self._index(sample)][1]

    @property
    def values(self) -> list[T]:
        """Values that are not forgotten, newest last."""
        return [value for _, value in self._values]

    def forget(self, sample: int) -> None:
        """Drop values that hold only before a sample."""
        del self._values[: self._index(sample)]

    def _index(self, sample: int) -> int:
        return max(0, bisect_left(self._values, sample, key=lambda each: each[0]) - 1)
