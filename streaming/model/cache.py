"""The encoder's cache of live utterances: one slot for each utterance, one pool for each shape of slot.

A pool allocates its tensors in advance and grows by doubling, so a step allocates nothing for its utterances. All pools
together stay within a limit of bytes; the manager drops an empty pool when another one must grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import EngineError
from ..requests import CacheHandle

_FIRST_SLOTS = 8
# Rounding, in frames, lets similar settings share a pool, and so a batch.
_LEFT_ROUNDING = 50
_LONGEST_ROUNDING = 500

NOWHERE = 0  # cell for writes that must have no effect
ZERO = 1  # cell whose features are always zero


class SlotShape(NamedTuple):
    """The capacity of a slot, in frames."""

    left: int  # committed frames whose keys and values are kept
    longest: int  # frames whose projected features are kept

    @classmethod
    def of(cls, memory: CacheHandle) -> SlotShape:
        return cls(_up(memory.left_context, _LEFT_ROUNDING), _up(max(1, memory.longest), _LONGEST_ROUNDING))


def _up(frames: int, step: int) -> int:
    return -(-frames // step) * step


class Pool:
    """Tensors of the slots of one shape. No utterance gets slot 0; its first cells are `NOWHERE` and `ZERO`.

    Both are rings. `features`, (slots * cells, hidden), holds projected features: frame `f` of an utterance lies in
    cell `f % cells` of its slot. There are `reach` cells more than `longest`: the frames before the committed edge stay
    available at any length. `keys_values`, per layer (slots, left, 2 * hidden), holds frame `f` in cell `f % left`. The
    order of keys does not matter, because attention has no relative positions.
    """

    def __init__(
        self, shape: SlotShape, *, reach: int, layers: int, hidden: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.shape = shape
        self.cells = shape.longest + reach
        self.slot_bytes = (shape.left * 2 * layers + self.cells) * hidden * dtype.itemsize
        self.slots = 0
        self.features = torch.zeros(0, hidden, device=device, dtype=dtype)
        self.keys_values = [torch.zeros(0, shape.left, 2 * hidden, device=device, dtype=dtype) for _ in range(layers)]
        self.free: list[int] = []
        self.version = object()  # of the tensors; a new one after they move

    @property
    def held(self) -> int:
        """Slots in use."""
        return max(0, self.slots - 1) - len(self.free)

    def grow(self, slots: int) -> None:
        self.features = _grown(self.features, slots * self.cells)
        for index, block in enumerate(self.keys_values):  # one by one: only one layer exists twice at a time
            self.keys_values[index] = _grown(block, slots)
        self.free += range(slots - 1, max(self.slots, 1) - 1, -1)
        self.slots = slots
        self.version = object()


def _grown(block: Tensor, length: int) -> Tensor:
    larger = block.new_zeros(length, *block.shape[1:])
    larger[: len(block)] = block
    return larger


@dataclass(slots=True)
class Slot:
    """An utterance's slot in a pool, and its progress in frames, as in `Window`."""

    pool: Pool
    index: int  # in the pool
    committed: int = 0
    encoded: int = 0
    touched: int = 0  # frames whose features a step has written or tried to

    def holds(self, frames: int) -> bool:
        """Whether the slot still holds the features of the utterance's first `frames` frames."""
        return frames <= self.encoded and self.touched <= self.pool.cells


class CacheManager:
    """Slots of all utterances, by the number of their cache handle. Only the thread that runs the model uses it.

    `make` creates the pool for a shape.
    """

    def __init__(self, make: Callable[[SlotShape], Pool], *, most_bytes: int) -> None:
        self._pools: dict[SlotShape, Pool] = {}
        self._slots: dict[int, Slot] = {}
        self._make = make
        self._most_bytes = most_bytes

    def __len__(self) -> int:
        """Slots in use."""
        return len(self._slots)

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(pool.slots * pool.slot_bytes for pool in self._pools.values())

    def get(self, number: int) -> Slot | None:
        return self._slots.get(number)

    def take(self, number: int, shape: SlotShape) -> Slot:
        """A slot for a new utterance. Raises `EngineError` if there is no room."""
        pool = self._pool(shape)
        if not pool.free:
            self._grow(pool)
        slot = self._slots[number] = Slot(pool, pool.free.pop())
        return slot

    def reserve(self, shape: SlotShape, utterances: int) -> Pool:
        """Make room in advance, as far as the limit allows. A pool that grows later moves, and needs new graphs."""
        pool = self._pool(shape)
        if not pool.free:
            self._grow(pool)
        pool.grow(max(pool.slots, min(1 + utterances, self._room(pool))))
        return pool

    def _pool(self, shape: SlotShape) -> Pool:
        if shape not in self._pools:
            self._pools[shape] = self._make(shape)
        return self._pools[shape]

    def release(self, number: int) -> None:
        """Free the slot, if there is one. Its content stays unread until the next utterance overwrites it."""
        slot = self._slots.pop(number, None)
        if slot is not None:
            slot.pool.free.append(slot.index)

    def _grow(self, pool: Pool) -> None:
        fewest = max(pool.slots, 1) + 1
        if self._room(pool) < fewest:
            for shape in [each.shape for each in self._pools.values() if each is not pool and not each.held]:
                del self._pools[shape]
        slots = min(max(_FIRST_SLOTS, 2 * pool.slots), self._room(pool))
        if slots < fewest:
            if not pool.slots:
                del self._pools[pool.shape]
            raise EngineError("the encoder has no room for another live utterance")
        pool.grow(slots)

    def _room(self, pool: Pool) -> int:
        """Slots that the pool could have while the others keep their size."""
        return (self._most_bytes - self.bytes) // pool.slot_bytes + pool.slots
