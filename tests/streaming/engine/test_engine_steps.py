"""Cached steps in the engine: batches, order within an utterance, failures and releases."""

from __future__ import annotations

import gc
from concurrent.futures import Future

import pytest
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, CacheHandle, Window

from tests.support.engine_model import LIMIT, Model, audio, names, step


def done_with(engine: Engine) -> None:
    """Wait until the worker has done all submitted work."""
    engine.submit(audio(99), deadline=1e9).result(LIMIT)


def test_a_batch_holds_steps_or_full_passes_and_one_step_of_an_utterance(start):
    model = Model(max_batch=8)
    engine = start(model)
    a, b, c = CacheHandle(50, 24), CacheHandle(50, 24), CacheHandle(50, 24)
    requests = [(1, a), (2, None), (3, b), (4, a), (5, None), (6, c), (7, b), (8, a)]
    futures = [engine.submit(audio(i), deadline=i, reuse=m and step(m)) for i, m in requests]
    model.go.set()
    assert names(futures) == [i for i, _ in requests]
    assert model.batches[1:] == [[1, 3, 6], [2, 5], [4, 7], [8]]
    assert (engine.counters.pass_waits.count, engine.counters.step_waits.count) == (3, 6)


def test_a_step_never_overtakes_an_earlier_one_of_its_utterance(start):
    """The earlier step does not fit the batch; the later one would."""
    model = Model(max_batch=8)
    model.fits_step = lambda step, others: step.window.newest == others[0].window.newest  # type: ignore[method-assign]
    engine = start(model)
    a, b = CacheHandle(50, 24), CacheHandle(50, 24)

    def submit(name: int, memory: CacheHandle, newest: int) -> Future:
        return engine.submit(audio(name), deadline=0, reuse=CachedStep(memory, Window(0, 0, 0, 1, newest, 0)))

    futures = [submit(1, a, 10), submit(2, b, 20), submit(3, b, 10), submit(4, a, 10)]
    model.go.set()
    assert names(futures) == [1, 2, 3, 4]
    assert model.batches[1:] == [[1], [2], [3, 4]]


def test_an_urgent_pass_raises_the_priority_of_its_steps_and_never_overtakes_them(start):
    model = Model(max_batch=8)
    engine = start(model)
    a, b = CacheHandle(50, 24), CacheHandle(51, 24)
    requests = [(1, 9.0, step(a)), (2, 5.0, step(b)), (3, 9.0, step(a)), (4, 1.0, CachedFeatures(a, 2)), (5, 2.0, None)]
    futures = [engine.submit(audio(name), deadline=due, reuse=reuse) for name, due, reuse in requests]
    model.go.set()
    assert names(futures) == [1, 2, 3, 4, 5]
    assert model.batches[1:] == [[1], [3], [4, 5], [2]]


def test_a_step_of_a_failed_batch_is_applied_once_when_retried(start):
    def fail(batch: list[int]) -> None:
        if 2 in batch:
            raise EngineError("what the encoder remembered is gone")

    model = Model(max_batch=4, act=fail)
    engine = start(model)
    memories = [CacheHandle(50, 24) for _ in range(3)]
    futures = [engine.submit(audio(i), deadline=i, reuse=step(m)) for i, m in enumerate(memories, start=1)]
    model.go.set()
    assert names([futures[0], futures[2]]) == [1, 3]
    with pytest.raises(EngineError, match="gone"):
        futures[1].result(LIMIT)
    assert model.applied == [(memories[0].number, 1), (memories[2].number, 3)]


def test_a_release_follows_the_running_step_and_withdraws_waiting_ones(start):
    model = Model()
    engine = start(model)
    a, b = CacheHandle(50, 24), CacheHandle(50, 24)
    first = engine.submit(audio(1), deadline=1, reuse=step(a))
    model.busy.clear()
    model.go.set()
    assert names([first]) == [1]
    model.go.clear()
    model.busy.clear()
    under_way = engine.submit(audio(2), deadline=2, reuse=step(a))
    assert model.busy.wait(LIMIT)
    waiting = engine.submit(audio(3), deadline=3, reuse=step(a))
    other = engine.submit(audio(4), deadline=4, reuse=step(b))
    engine.release(a)
    engine.release(a)
    engine.release(CacheHandle(50, 24))  # an unknown cache
    assert waiting.cancelled()
    model.go.set()
    assert names([under_way, other]) == [2, 4]
    assert model.applied == [(a.number, 1), (a.number, 2), (a.number, "released"), (b.number, 4)]


def test_the_cache_of_a_collected_handle_is_released_after_its_steps(start):
    model = Model()
    engine = start(model)
    memory = CacheHandle(50, 24)
    number = memory.number
    futures = [engine.submit(audio(i), deadline=i, reuse=step(memory)) for i in (1, 2)]
    del memory
    gc.collect()
    model.go.set()
    assert names(futures) == [1, 2]
    done_with(engine)
    done_with(engine)
    assert model.applied == [(number, 1), (number, 2), (number, "released")]
    assert not len(engine._caches)
