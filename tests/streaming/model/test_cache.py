"""Pools of slots: growth, reserved room, and memory that runs out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
import torch
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.model import cache
from xlsr_live.streaming.model.cache import GPU_LEFT_ROUNDING, CacheManager, Pool, SlotShape
from xlsr_live.streaming.requests import CacheHandle

LAYERS = 3


def make(shape: SlotShape) -> Pool:
    return Pool(shape, reach=4, layers=LAYERS, hidden=8, device=torch.device("cpu"), dtype=torch.float32)


SLOT = make(SlotShape.of(CacheHandle(50, 24))).slot_bytes


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets so many tensors grow, then reports one time that memory ran out."""

    def begin(tensors: int) -> None:
        calls, grown = count(), cache._grown

        def limited(block: torch.Tensor, length: int) -> torch.Tensor:
            if next(calls) == tensors:
                raise torch.OutOfMemoryError("none left")
            return grown(block, length)

        monkeypatch.setattr(cache, "_grown", limited)

    return begin


@pytest.mark.parametrize("tensors", range(1 + LAYERS))
def test_a_pool_that_finds_no_memory_keeps_its_slots_and_can_grow_later(scarce: Callable[[int], None], tensors: int):
    caches = CacheManager(make, most_bytes=1 << 30)
    handles = [CacheHandle(50, 24) for _ in range(10)]
    slots = [caches.take(handle) for handle in handles[:7]]
    pool = slots[0].pool
    for block in pool.keys_values:
        block.copy_(torch.arange(len(block)).view(-1, 1, 1).expand_as(block))
    version, known = pool.version, [block.clone() for block in pool.keys_values]
    scarce(tensors)
    with pytest.raises(EngineError, match="no room"):
        caches.take(handles[7])
    assert pool.version is not version, "graphs of the tensors that moved must not run"
    assert (pool.slots, pool.held, len(caches)) == (8, 7, 7)
    assert caches.bytes == pool.features.nbytes + sum(block.nbytes for block in pool.keys_values)
    assert all(torch.equal(block[:8], old) for block, old in zip(pool.keys_values, known, strict=True))
    indices = {caches.take(handle).index for handle in handles[7:]}
    assert len(indices | {slot.index for slot in slots}) == 10
    assert pool.slots == 16
    assert caches.bytes == 16 * SLOT
    assert all(torch.equal(block[:8], old) for block, old in zip(pool.keys_values, known, strict=True))


def test_a_new_pool_without_memory_leaves_nothing(scarce: Callable[[int], None]):
    caches = CacheManager(make, most_bytes=1 << 30)
    scarce(2)
    with pytest.raises(EngineError, match="no room"):
        caches.take(CacheHandle(50, 24))
    assert (caches.bytes, len(caches)) == (0, 0)
    caches.take(CacheHandle(50, 24))


def test_reserved_room_is_bounded_by_the_limit_and_leaves_some_for_other_shapes():
    caches = CacheManager(make, most_bytes=100 * SLOT)
    pool = caches.reserve(CacheHandle(50, 24), 1_000)
    assert caches.bytes == 75 * SLOT
    assert caches.room(CacheHandle(50, 24)) == pool.slots - 1 == 74
    assert caches.room(CacheHandle(10, 24)) == 74
    longer = CacheHandle(100, 24)
    room = caches.room(longer)
    assert 0 < room < 25
    handles = [CacheHandle(100, 24) for _ in range(room)]
    assert all(caches.take(handle).pool is not pool for handle in handles)
    with pytest.raises(EngineError, match="no room"):
        caches.take(longer)
    assert caches.bytes <= 100 * SLOT


def test_reserving_takes_what_the_device_has(scarce: Callable[[int], None]):
    caches = CacheManager(make, most_bytes=1 << 30)
    scarce(2)
    assert caches.reserve(CacheHandle(50, 24), 99).slots == 50
    with pytest.raises(EngineError, match="no room"):
        CacheManager(make, most_bytes=SLOT).reserve(CacheHandle(50, 24), 99)


def test_reserved_slots_hold_utterances_that_need_less():
    caches = CacheManager(make, most_bytes=1 << 30, rounding=GPU_LEFT_ROUNDING)
    version = caches.reserve(CacheHandle(200, 24), 5).version
    taken = [caches.take(handle) for handle in (CacheHandle(200, 24), CacheHandle(50, 0), CacheHandle(0, 24, 300))]
    assert {slot.pool for slot in taken} == {caches.reserved}
    assert caches.take(CacheHandle(201, 24)).pool is not caches.reserved
    assert caches.shape(CacheHandle(201, 24)).left == 240
    assert caches.reserved.version is version


def test_on_a_gpu_keys_are_multiples_of_8():
    """`scaled_dot_product_attention` copies masks of other widths in every layer."""
    assert all(SlotShape.of(CacheHandle(left, 24), GPU_LEFT_ROUNDING).left % 8 == 0 for left in range(300))
