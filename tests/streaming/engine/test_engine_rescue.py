"""A worker that hangs in the encoder: its waiters get an error, a new worker continues, late answers have no effect."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.requests import CachedFeatures, CacheHandle

from tests.support.engine_model import LIMIT, Clock, Hanging, Model, audio, names, step, wait_until


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model() -> Iterator[Hanging]:
    before = set(threading.enumerate())
    model = Hanging(1, max_batch=8)
    yield model
    model.freed.set()
    for thread in set(threading.enumerate()) - before:  # returning workers write a log record
        thread.join(LIMIT)


def test_waiters_of_a_hanging_worker_get_an_error_and_others_are_served(model: Hanging, clock: Clock):
    engine = Engine(model, clock=clock)
    stuck = engine.submit(audio(1), deadline=0)
    assert model.hung.acquire(timeout=LIMIT)
    waiting = [engine.submit(audio(name), deadline=0) for name in (2, 3)]
    clock.now = 10.0
    assert engine.working_s == 10.0
    assert not engine.replace_stuck_worker(10.0)
    clock.now = 10.1
    assert engine.replace_stuck_worker(10.0)
    with pytest.raises(EngineError, match="did not answer within 10 s") as error:
        stuck.result(0)
    assert error.value.code == "encoder_failed"
    assert names(waiting) == [2, 3]
    assert engine.alive
    assert (engine.counters.restarts, engine.counters.failures) == (1, 1)
    assert not engine.replace_stuck_worker(10.0)
    late = names([engine.submit(audio(4), deadline=0)])
    model.freed.set()  # the first worker returns with an answer that has no waiter
    wait_until(lambda: not engine._caches.hung)
    assert late + names([engine.submit(audio(5), deadline=0)]) == [4, 5]
    assert engine.counters.pass_waits.count == 4
    engine.close()


def test_the_duration_of_a_running_search(model: Hanging, clock: Clock):
    engine, started, go = Engine(model, clock=clock), threading.Event(), threading.Event()
    found = engine.search(lambda: (started.set(), go.wait(LIMIT)), deadline=0)
    assert started.wait(LIMIT)
    clock.now = 10.0
    assert engine.searching_s == 10.0
    go.set()
    found.result(LIMIT)
    assert engine.searching_s == 0.0
    engine.close()


def test_a_new_worker_is_unhealthy_until_its_first_answer(model: Hanging, clock: Clock):
    engine = Engine(model, clock=clock)
    assert engine.healthy
    engine.submit(audio(1), deadline=0)
    assert model.hung.acquire(timeout=LIMIT)
    clock.now = 99.0
    assert engine.replace_stuck_worker(1.0)
    assert not engine.healthy
    assert engine.working_s == 0.0
    assert names([engine.submit(audio(2), deadline=0)]) == [2]
    assert engine.healthy
    engine.close()


def test_consecutive_failures_make_it_unhealthy_and_an_answer_healthy():
    def fail(batch: list[int]) -> None:
        if batch[0] < 4:
            raise RuntimeError("out of memory")

    model = Model(act=fail)
    model.go.set()
    engine = Engine(model)
    for name in (1, 2, 3):
        assert engine.healthy
        with pytest.raises(EngineError):
            engine.submit(audio(name), deadline=0).result(LIMIT)
    assert not engine.healthy
    assert names([engine.submit(audio(4), deadline=0)]) == [4]
    assert engine.healthy
    engine.close()


def test_caches_that_a_hanging_worker_may_still_write_are_not_reused(model: Hanging, clock: Clock):
    engine = Engine(model, clock=clock)
    hung, other = CacheHandle(50, 24), CacheHandle(50, 24)
    stuck = engine.submit(audio(1), deadline=0, reuse=step(hung))
    assert model.hung.acquire(timeout=LIMIT)
    next_step = engine.submit(audio(2), deadline=1, reuse=step(hung))
    final = engine.submit(audio(3), deadline=2, reuse=CachedFeatures(hung, 1))
    neighbour = engine.submit(audio(4), deadline=3, reuse=step(other))
    clock.now = 99.0
    assert engine.replace_stuck_worker(1.0)
    for future in (stuck, next_step, engine.submit(audio(5), deadline=0, reuse=step(hung))):
        with pytest.raises(EngineError):
            future.result(LIMIT)
    # Passes need no cache.
    assert names([final, neighbour, engine.submit(audio(6), deadline=0, reuse=CachedFeatures(hung, 1))]) == [3, 4, 6]
    engine.release(hung)
    assert names([engine.submit(audio(7), deadline=0)]) == [7]
    assert model.applied == [(other.number, 4)]
    model.freed.set()
    wait_until(lambda: (hung.number, "released") in model.applied)
    assert model.applied[1:] == [(hung.number, 1), (hung.number, "released")]
    engine.close()


def test_answered_requests_of_a_failing_batch_keep_their_answers(clock: Clock):
    model = Hanging(2, max_batch=4)

    def fail_together(batch: list[int]) -> None:
        if len(batch) > 1:
            raise RuntimeError("one of them is bad")
        model._hang(batch)

    model._act = fail_together
    model.go.clear()
    engine = Engine(model, clock=clock)
    first = engine.submit(audio(9), deadline=0)
    assert model.busy.wait(LIMIT)
    futures = [engine.submit(audio(name), deadline=name) for name in (1, 2, 3)]
    model.go.set()
    assert model.hung.acquire(timeout=LIMIT)
    clock.now = 99.0
    assert engine.replace_stuck_worker(1.0)
    assert names([first, futures[0]]) == [9, 1]
    for future in futures[1:]:
        with pytest.raises(EngineError):
            future.result(LIMIT)
    model.freed.set()
    engine.close()


def test_an_encoder_that_hangs_repeatedly_is_given_up(model: Hanging, clock: Clock):
    engine = Engine(model, clock=clock)
    for _ in range(4):
        assert engine.alive
        stuck = engine.submit(audio(1), deadline=0)
        assert model.hung.acquire(timeout=LIMIT)
        waiting = engine.submit(audio(2), deadline=1)
        clock.now += 99.0
        assert engine.replace_stuck_worker(1.0)
        with pytest.raises(EngineError):
            stuck.result(LIMIT)
        assert not engine.alive or names([waiting]) == [2]
    assert not engine.alive
    with pytest.raises(EngineError, match="was stopped"):
        waiting.result(LIMIT)
    with pytest.raises(EngineError, match="not running"):
        engine.submit(audio(2), deadline=0).result(LIMIT)
    engine.close(timeout=0.0)  # does not wait for hanging workers


def test_a_replaced_worker_that_dies_fails_no_request(clock: Clock):
    class Late(BaseException):
        pass

    model = Hanging(1)

    def die(batch: list[int]) -> None:
        model._hang(batch)
        if 1 in batch:
            raise Late

    model._act = die
    engine = Engine(model, clock=clock)
    engine.submit(audio(1), deadline=0)
    assert model.hung.acquire(timeout=LIMIT)
    clock.now = 99.0
    assert engine.replace_stuck_worker(1.0)
    model.freed.set()
    wait_until(lambda: not engine._caches.hung)
    assert engine.alive
    assert names([engine.submit(audio(2), deadline=0)]) == [2]
    engine.close()
