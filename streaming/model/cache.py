"""The encoder's cache of live utterances: one slot for each utterance, one pool for each shape of slot.

A pool allocates its tensors in advance, so a step allocates nothing for its utterances. All pools together stay within
a limit of bytes. On a GPU one pool is reserved at load and never moves: graphs hold its addresses. Every utterance that
fits into its slots gets one of them. Other pools grow by doubling, and the manager drops an empty one when another must
grow.
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
LEFT_ROUNDING = 50
# On a GPU a multiple of 8: attention would copy a mask of another width in every layer.
GPU_LEFT_ROUNDING = 40
_LONGEST_ROUNDING = 500

_RESERVED_SHARE = 0.75  # of the limit; the rest is for utterances that do not fit into the reserved slots

PAGE = 256  # cells of a page of keys: what FlashAttention demands
OWN = 56  # frames of a step that packed attention can take: hop and lookahead of the defaults, and some

NOWHERE = 0  # cell for writes that must have no effect
ZERO = 1  # cell whose features are always zero


class SlotShape(NamedTuple):
    """The capacity of a slot, in frames."""

    left: int  # committed frames whose keys and values are kept
    longest: int  # frames whose projected features are kept

    @classmethod
    def of(cls, memory: CacheHandle, rounding: int = LEFT_ROUNDING) -> SlotShape:
        return cls(_up(memory.left_context, rounding), _up(max(1, memory.longest), _LONGEST_ROUNDING))

    def covers(self, other: SlotShape) -> bool:
        return self.left >= other.left and self.longest >= other.longest


def _up(frames: int, step: int) -> int:
    return -(-frames // step) * step


class Pool:
    """Tensors of the slots of one shape. No utterance gets slot 0; its first cells are `NOWHERE` and `ZERO`.

    Both are rings. `features`, (slots * cells, hidden), holds projected features: frame `f` of an utterance lies in
    cell `f % cells` of its slot. There are `reach` cells more than `longest`: the frames before the committed edge stay
    available at any length. `keys_values`, per layer (slots, left, 2 * hidden), holds frame `f` in cell `f % left`. The
    order of keys does not matter, because attention has no relative positions.

    In a pool with `own` cells, for packed attention, a slot is whole pages. The ring of an utterance is as long as its
    own left context, and its last cells are followed by `own` more at least, for the keys of the step itself.
    """

    def __init__(
        self,
        shape: SlotShape,
        *,
        reach: int,
        layers: int,
        hidden: int,
        device: torch.device,
        dtype: torch.dtype,
        own: int = 0,
    ) -> None:
        self.shape = shape
        self.cells = shape.longest + reach
        self.own = own
        self.kept_cells = _up(shape.left + own, PAGE) if own else shape.left
        self.slot_bytes = (self.kept_cells * 2 * layers + self.cells) * hidden * dtype.itemsize
        self.slots = 0
        self.features = torch.zeros(0, hidden, device=device, dtype=dtype)
        empty = 0, self.kept_cells, 2 * hidden
        self.keys_values = [torch.zeros(empty, device=device, dtype=dtype) for _ in range(layers)]
        self.free: list[int] = []
        self.version = object()  # of the tensors; a new one after they move

    @property
    def held(self) -> int:
        """Slots in use."""
        return max(0, self.slots - 1) - len(self.free)

    @property
    def bytes(self) -> int:
        """Size of the tensors."""
        return self.features.nbytes + sum(block.nbytes for block in self.keys_values)

    def grow(self, slots: int) -> None:
        """Raises `torch.OutOfMemoryError`: the pool then has the slots that it had."""
        self.version = object()  # first: tensors may have moved when memory runs out
        self.features = _grown(self.features, slots * self.cells)
        for index, block in enumerate(self.keys_values):  # one by one: only one layer exists twice at a time
            self.keys_values[index] = _grown(block, slots)
        self.free += range(slots - 1, max(self.slots, 1) - 1, -1)
        self.slots = slots


def _grown(block: Tensor, length: int) -> Tensor:
    if len(block) >= length:  # since an attempt that ran out of memory
        return block
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
    ring: int = 0  # cells of its ring of keys and values
    touched: int = 0  # frames whose features a step has written or tried to

    def holds(self, frames: int) -> bool:
        """Whether the slot still holds the features of the utterance's first `frames` frames."""
        return frames <= self.encoded and self.touched <= self.pool.cells


class CacheManager:
    """Slots of all utterances, by the number of their cache handle. Only the thread that runs the model uses it.

    `make` creates the pool for a shape; left contexts are rounded up to multiples of `rounding` frames.
    """

    def __init__(self, make: Callable[[SlotShape], Pool], *, most_bytes: int, rounding: int = LEFT_ROUNDING) -> None:
        self.reserved: Pool | None = None  # keeps its place in memory
        self._pools: dict[SlotShape, Pool] = {}
        self._slots: dict[int, Slot] = {}
        self._make = make
        self._most_bytes = most_bytes
        self._rounding = rounding

    def __len__(self) -> int:
        """Slots in use."""
        return len(self._slots)

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(pool.bytes for pool in self._pools.values())

    def shape(self, handle: CacheHandle) -> SlotShape:
        """Of the slot that an utterance gets."""
        shape = SlotShape.of(handle, self._rounding)
        return self.reserved.shape if self.reserved and self.reserved.shape.covers(shape) else shape

    def get(self, number: int) -> Slot | None:
        return self._slots.get(number)

    def take(self, handle: CacheHandle) -> Slot:
        """A slot for a new utterance. Raises `EngineError` if there is no room."""
        pool = self._pool(self.shape(handle))
        if not pool.free:
            self._grow(pool)
        ring = handle.left_context if pool.own else pool.shape.left
        slot = self._slots[handle.number] = Slot(pool, pool.free.pop(), ring=ring)
        return slot

    def reserve(self, handle: CacheHandle, utterances: int) -> Pool:
        """Make room for that many utterances like this one, or for fewer if memory is short; call it once, before the
        first utterance. Raises `EngineError` without room for any."""
        pool = self._pool(self.shape(handle))
        slots = min(1 + utterances, int(_RESERVED_SHARE * self._room(pool)))
        while slots > 1:
            try:
                pool.grow(slots)
            except torch.OutOfMemoryError:
                slots //= 2
            else:
                self.reserved = pool
                return pool
        del self._pools[pool.shape]
        raise _no_room()

    def room(self, handle: CacheHandle) -> int:
        """The number of utterances like this one that can live at the same time."""
        pool = self._pools.get(self.shape(handle))
        if pool is not None and pool is self.reserved:
            return pool.slots - 1
        fixed = self.reserved.bytes if self.reserved else 0
        return max(0, (self._most_bytes - fixed) // self.slot_bytes(handle) - 1)

    def slot_bytes(self, handle: CacheHandle) -> int:
        """Size of one utterance's slot."""
        return self._make(self.shape(handle)).slot_bytes

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
        if pool is self.reserved:
            raise _no_room()
        fewest = max(pool.slots, 1) + 1
        if self._room(pool) < fewest:
            for other in list(self._pools.values()):
                if other is not pool and other is not self.reserved and not other.held:
                    del self._pools[other.shape]
        slots = min(max(_FIRST_SLOTS, 2 * pool.slots), self._room(pool))
        try:
            if slots < fewest:
                raise _no_room()
            pool.grow(slots)
        except (EngineError, torch.OutOfMemoryError):
            if not pool.slots:
                del self._pools[pool.shape]
            raise _no_room() from None

    def _room(self, pool: Pool) -> int:
        """Slots that the pool could have while the others keep their size."""
        others = sum(each.bytes for each in self._pools.values() if each is not pool)
        return (self._most_bytes - others) // pool.slot_bytes


def _no_room() -> EngineError:
    return EngineError("the encoder has no room for another live utterance")
