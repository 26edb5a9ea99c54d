"""The request queue: every request leaves once, in the order of its lane, the most urgent first."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Future
from random import Random

import numpy as np
import pytest
from xlsr_live.streaming.engine.queue import EncodeJob, RequestQueue
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, CacheHandle, Window

NOTHING = np.zeros(1, np.float32)


def job(deadline: float, reuse: CachedStep | CachedFeatures | None = None, wanted: bool = True) -> EncodeJob:
    return EncodeJob(deadline, 0.0, NOTHING, lambda: wanted, reuse, Future())


def number(one: EncodeJob) -> int:
    """The lane of a request; a request without a cache has its own lane."""
    return -one.order if one.cache is None else one.cache


@pytest.mark.parametrize("seed", range(40))
def test_each_request_leaves_once_in_order_and_the_most_urgent_first(seed: int) -> None:
    random, queue, memories = Random(seed), RequestQueue(), [CacheHandle(10, 5) for _ in range(4)]
    most, waiting, gone, withdrawn = random.randint(1, 6), dict[int, EncodeJob](), list[EncodeJob](), 0
    for _ in range(300):
        if random.random() < 0.6:
            memory = random.choice(memories)
            kinds = (None, CachedFeatures(memory, 3), CachedStep(memory, Window(0, 0, 0, 0, 0, 0)))
            added = job(random.random(), random.choice(kinds), wanted=random.random() < 0.9)
            queue.put(added)
            waiting[added.order] = added
        else:
            before = dict(waiting)
            batch: list[EncodeJob] = []
            withdrawn += queue.fill(batch, most, lambda one: random.random() < 0.8)
            for one in [*batch, *(one for one in before.values() if one.future.cancelled())]:
                assert waiting.pop(one.order) is one
                gone.append(one)
            assert len(batch) <= most
            assert len({number(one) for one in batch}) == len(batch), "one of each memory"
            assert len({isinstance(one.reuse, CachedStep) for one in batch}) <= 1, "steps or passes"
            due: dict[int, float] = defaultdict(lambda: 1.0)  # an urgent request raises the priority of those before it
            for one in before.values():
                if not one.future.cancelled():
                    due[number(one)] = min(due[number(one)], one.deadline)
            # A lane is as urgent as its most urgent request, including unwanted ones.
            if batch and all(one.wanted() for one in before.values()):
                assert due[number(batch[0])] == min(due.values())
        assert queue.waiting == len(waiting)
    while waiting:
        batch = []
        withdrawn += queue.fill(batch, most, lambda _: True)
        for one in [*batch, *(one for one in waiting.values() if one.future.cancelled())]:
            gone.append(waiting.pop(one.order))
    assert queue.waiting == 0
    assert withdrawn == sum(not one.wanted() for one in gone)
    orders: dict[int, list[int]] = defaultdict(list)
    for one in gone:
        if one.wanted():
            orders[number(one)].append(one.order)
    assert all(order == sorted(order) for order in orders.values())


def test_a_failing_fits_callback_loses_no_request() -> None:
    queue = RequestQueue()
    for deadline in range(4):
        queue.put(job(deadline))

    def fits(one: EncodeJob) -> bool:
        if one.deadline == 2:
            raise MemoryError
        return False

    batch: list[EncodeJob] = []
    with pytest.raises(MemoryError):
        queue.fill(batch, 4, fits)
    assert [one.deadline for one in batch] == [0]
    assert queue.waiting == 3
    assert sorted(one.deadline for one in queue.clear()) == [1, 2, 3]


def test_removing_the_steps_of_a_lane_keeps_its_passes() -> None:
    queue, memory = RequestQueue(), CacheHandle(10, 5)
    step, whole = job(1.0, CachedStep(memory, Window(0, 0, 0, 0, 0, 0))), job(2.0, CachedFeatures(memory, 3))
    queue.put(step)
    queue.put(whole)
    assert queue.detach(memory.number) == [step]
    assert queue.detach(memory.number) == []
    batch: list[EncodeJob] = []
    queue.fill(batch, 2, lambda _: True)
    assert batch == [whole]
    assert whole.reuse is None
    assert queue.waiting == 0
