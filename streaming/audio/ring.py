"""A bounded buffer of audio with an absolute sample index.

The index counts from the start of the session and never wraps. The buffer starts small and grows up to its capacity,
so a silent session uses little memory. It counts the samples that it drops.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class AudioRing:
    """Holds samples `[start, end)`; `dropped` counts samples that were overwritten before a `discard`. `start` is the
    index of the first sample.
    """

    def __init__(self, capacity: int, start: int = 0) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least one sample")
        self.capacity = capacity
        self.start = start
        self.end = start
        self.dropped = 0
        self._data = np.zeros(min(capacity, 16_384), np.float32)

    def append(self, samples: NDArray[np.float32]) -> None:
        """Add samples at `end`. Beyond the capacity, drop and count the oldest."""
        end = self.end + len(samples)
        overrun = max(0, end - self.start - self.capacity)
        self.dropped += overrun
        self.start += overrun
        self._reserve(end - self.start)
        kept = samples[-self.capacity :]
        self._copy_in(end - len(kept), kept)
        self.end = end

    def read(self, start: int, end: int) -> NDArray[np.float32]:
        """Copy of samples `[start, end)`. Raises `IndexError` if the buffer does not hold them all."""
        if not self.start <= start <= end <= self.end:
            raise IndexError(f"samples [{start}, {end}) requested, [{self.start}, {self.end}) held")
        at, count, size = start % len(self._data), end - start, len(self._data)
        if at + count <= size:
            return self._data[at : at + count].copy()
        return np.concatenate((self._data[at:], self._data[: at + count - size]))

    def discard(self, before: int) -> None:
        """Drop all samples before index `before` on purpose."""
        self.start = max(self.start, min(before, self.end))

    def _reserve(self, count: int) -> None:
        if count <= len(self._data):
            return
        held = self.read(self.start, self.end) if self.start < self.end else None
        self._data = np.zeros(min(self.capacity, max(count, 2 * len(self._data))), np.float32)
        if held is not None:
            self._copy_in(self.start, held)

    def _copy_in(self, start: int, samples: NDArray[np.float32]) -> None:
        size = len(self._data)
        at = start % size
        first = min(len(samples), size - at)
        self._data[at : at + first] = samples[:first]
        if first < len(samples):
            self._data[: len(samples) - first] = samples[first:]
