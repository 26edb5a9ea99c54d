"""A ring of float32 arrays in shared memory, from one process to another."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

HEADER: Final = 16  # bytes: where the reader is, and padding
_ITEM: Final = 4  # bytes of a float32


class Ring:
    """One process puts arrays, the other takes them in the same order. Their places cross another way.

    Places count items since the start and never wrap; an array does not cross the end of the ring.
    """

    def __init__(self, memory: memoryview) -> None:
        self._taken: NDArray[np.int64] = np.frombuffer(memory[:HEADER], np.int64)  # written by the reader
        self._items: Float32 = np.frombuffer(memory[HEADER:], np.float32)
        self._put = 0

    @property
    def largest(self) -> int:
        """The most items that an array should have; a larger one should cross another way."""
        return len(self._items) // 4

    def put(self, array: Float32) -> int | None:
        """Copy the array, of any shape, into the ring. Returns its place; None while there is no room."""
        count, size = array.size, len(self._items)
        place = self._put
        if place % size + count > size:
            place += size - place % size
        if place + count - int(self._taken[0]) > size:
            return None
        at = place % size
        self._items[at : at + count] = array.reshape(-1)
        self._put = place + count
        return place

    def take(self, place: int, count: int) -> Float32:
        """A copy of the array at that place, (count,). Frees it."""
        at = place % len(self._items)
        array = self._items[at : at + count].copy()
        self._taken[0] = place + count
        return array

    def close(self) -> None:
        """Let go of the memory."""
        self._taken, self._items = np.zeros(1, np.int64), np.zeros(0, np.float32)


def ring_bytes(items: int) -> int:
    """Memory of a ring for that many items."""
    return HEADER + _ITEM * items
