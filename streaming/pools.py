"""Room for what cached steps remember: pools of slots, one slot for each utterance, one pool for each geometry.

A pool's tensors are made in advance and grow by doubling, so a step allocates nothing for its utterances. All pools
together stay within a limit of bytes; an empty pool gives way to one that must grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import EngineError

_FIRST_SLOTS = 8
_ROUNDING = 50  # frames (1 s): settings that differ by little share a pool, and so a batch


class Geometry(NamedTuple):
    """What a slot has room for, in frames."""

    left: int  # committed frames whose keys and values are kept
    recent: int  # frames before and after the committed edge whose projected features are kept


def rounded(frames: int) -> int:
    return -(-frames // _ROUNDING) * _ROUNDING


class Pool:
    """Tensors of the slots of one geometry. Slot 0 belongs to nobody: what is to be written nowhere is written there.

    `keys_values`, for each layer (slots, left, 2 * hidden), is a ring: frame `f` lies in cell `f % left`. Attention has
    no relative positions, so the order of keys does not matter. `projected`, (slots, recent, hidden), holds the frames
    around the committed edge in their order.
    """

    def __init__(
        self, geometry: Geometry, *, layers: int, hidden: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.geometry = geometry
        self.slot_bytes = (geometry.left * 2 * layers + geometry.recent) * hidden * dtype.itemsize
        self.projected = torch.zeros(0, geometry.recent, hidden, device=device, dtype=dtype)
        self.keys_values = [
            torch.zeros(0, geometry.left, 2 * hidden, device=device, dtype=dtype) for _ in range(layers)
        ]
        self.free: list[int] = []

    @property
    def slots(self) -> int:
        return len(self.projected)

    @property
    def held(self) -> int:
        """Slots that utterances hold."""
        return max(0, self.slots - 1) - len(self.free)

    def grow(self, slots: int) -> None:
        old = self.slots
        self.projected = _grown(self.projected, slots)
        for index, block in enumerate(self.keys_values):  # one after the other, so that little is there twice
            self.keys_values[index] = _grown(block, slots)
        self.free += range(slots - 1, max(old, 1) - 1, -1)


def _grown(block: Tensor, slots: int) -> Tensor:
    larger = block.new_zeros(slots, *block.shape[1:])
    larger[: len(block)] = block
    return larger


@dataclass(slots=True)
class Place:
    """Where an utterance's state lies, and how far it has come. In frames, as in `Window`."""

    pool: Pool
    slot: int
    committed: int = 0
    heard: int = 0


class Places:
    """Slots of all utterances, by the number of their memory. Belongs to the thread that runs the model."""

    def __init__(self, *, layers: int, hidden: int, device: torch.device, dtype: torch.dtype, most_bytes: int) -> None:
        self._pools: dict[Geometry, Pool] = {}
        self._places: dict[int, Place] = {}
        self._layers = layers
        self._hidden = hidden
        self._device = device
        self._dtype = dtype
        self._most_bytes = most_bytes

    def __len__(self) -> int:
        """Utterances that hold a slot."""
        return len(self._places)

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(pool.slots * pool.slot_bytes for pool in self._pools.values())

    def get(self, number: int) -> Place | None:
        return self._places.get(number)

    def take(self, number: int, geometry: Geometry) -> Place:
        """A slot for a new utterance. Raises `EngineError` where there is no room."""
        pool = self._pools.get(geometry)
        if pool is None:
            pool = Pool(geometry, layers=self._layers, hidden=self._hidden, device=self._device, dtype=self._dtype)
            self._pools[geometry] = pool
        if not pool.free:
            self._grow(pool)
        place = self._places[number] = Place(pool, pool.free.pop())
        return place

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
