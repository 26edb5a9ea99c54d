"""Room for what is remembered of live utterances: pools of slots, a slot for each utterance, a pool for each geometry.

A pool's tensors are made in advance and grow by doubling, so a step allocates nothing for its utterances. All pools
together stay within a limit of bytes; an empty pool gives way to one that must grow.
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
# Settings that differ by little share a pool, and so a batch. In frames.
_LEFT_ROUNDING = 50
_LONGEST_ROUNDING = 500

NOWHERE = 0  # cell that takes what is to be written nowhere
ZERO = 1  # cell of features that are always zero


class SlotShape(NamedTuple):
    """What a slot has room for, in frames."""

    left: int  # committed frames whose keys and values are kept
    longest: int  # frames whose projected features are kept

    @classmethod
    def of(cls, memory: CacheHandle) -> SlotShape:
        return cls(_up(memory.left_context, _LEFT_ROUNDING), _up(max(1, memory.longest), _LONGEST_ROUNDING))


def _up(frames: int, step: int) -> int:
    return -(-frames // step) * step


class Pool:
    """Tensors of the slots of one geometry. Slot 0 belongs to nobody; its first cells are `NOWHERE` and `ZERO`.

    Both are rings. `features`, (slots * cells, hidden), holds projected features: frame `f` of an utterance lies in
    cell `f % cells` of its slot; there are `reach` cells more than `longest`, so that the frames before the committed
    edge are there whatever the length. `keys_values`, for each layer (slots, left, 2 * hidden), holds frame `f` in cell
    `f % left`. Attention has no relative positions, so the order of keys does not matter.
    """

    def __init__(
        self, geometry: SlotShape, *, reach: int, layers: int, hidden: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.geometry = geometry
        self.cells = geometry.longest + reach
        self.slot_bytes = (geometry.left * 2 * layers + self.cells) * hidden * dtype.itemsize
        self.slots = 0
        self.features = torch.zeros(0, hidden, device=device, dtype=dtype)
        self.keys_values = [
            torch.zeros(0, geometry.left, 2 * hidden, device=device, dtype=dtype) for _ in range(layers)
        ]
        self.free: list[int] = []
        self.version = object()  # of the tensors: another one when they have moved

    @property
    def held(self) -> int:
        """Slots that utterances hold."""
        return max(0, self.slots - 1) - len(self.free)

    def grow(self, slots: int) -> None:
        self.features = _grown(self.features, slots * self.cells)
        for index, block in enumerate(self.keys_values):  # one after the other, so that little is there twice
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
    """Where an utterance's state lies, and how far it has come. In frames, as in `Window`."""

    pool: Pool
    slot: int
    committed: int = 0
    heard: int = 0
    touched: int = 0  # frames whose features a step has written or tried to

    def recalls(self, frames: int) -> bool:
        """Whether the features of the utterance's first `frames` frames are there."""
        return frames <= self.heard and self.touched <= self.pool.cells


class CacheManager:
    """Slots of all utterances, by the number of their memory. Belongs to the thread that runs the model.

    `make` makes the pool of a geometry.
    """

    def __init__(self, make: Callable[[SlotShape], Pool], *, most_bytes: int) -> None:
        self._pools: dict[SlotShape, Pool] = {}
        self._places: dict[int, Slot] = {}
        self._make = make
        self._most_bytes = most_bytes

    def __len__(self) -> int:
        """Utterances that hold a slot."""
        return len(self._places)

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(pool.slots * pool.slot_bytes for pool in self._pools.values())

    def get(self, number: int) -> Slot | None:
        return self._places.get(number)

    def take(self, number: int, geometry: SlotShape) -> Slot:
        """A slot for a new utterance. Raises `EngineError` where there is no room."""
        pool = self._pool(geometry)
        if not pool.free:
            self._grow(pool)
        place = self._places[number] = Slot(pool, pool.free.pop())
        return place

    def reserve(self, geometry: SlotShape, utterances: int) -> Pool:
        """Make room in advance, as far as it goes. A pool that grows later moves, and graphs are captured again."""
        pool = self._pool(geometry)
        if not pool.free:
            self._grow(pool)
        pool.grow(max(pool.slots, min(1 + utterances, self._room(pool))))
        return pool

    def _pool(self, geometry: SlotShape) -> Pool:
        if geometry not in self._pools:
            self._pools[geometry] = self._make(geometry)
        return self._pools[geometry]

    def release(self, number: int) -> None:
        """Give the slot back, if there is one. What is in it stays until it is overwritten, and nobody reads it."""
        place = self._places.pop(number, None)
        if place is not None:
            place.pool.free.append(place.slot)

    def _grow(self, pool: Pool) -> None:
        fewest = max(pool.slots, 1) + 1
        if self._room(pool) < fewest:
            for geometry in [each.geometry for each in self._pools.values() if each is not pool and not each.held]:
                del self._pools[geometry]
        slots = min(max(_FIRST_SLOTS, 2 * pool.slots), self._room(pool))
        if slots < fewest:
            if not pool.slots:
                del self._pools[pool.geometry]
            raise EngineError("the encoder has no room for another live utterance")
        pool.grow(slots)

    def _room(self, pool: Pool) -> int:
        """Slots that the pool could have if the others stayed as they are."""
        return (self._most_bytes - self.bytes) // pool.slot_bytes + pool.slots
