"""One thread owns the model: the order of work, the members of a batch, and an answer for every waiter."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, wait

import pytest
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.overload import Level
from xlsr_live.streaming.requests import CachedFeatures

from tests.support.engine_model import LIMIT, Float32, Model, audio, names, wait_until


def test_the_earliest_deadline_runs_first_and_equal_ones_in_order(start):
    model = Model()
    engine = start(model)
    futures = [engine.submit(audio(i), deadline=d) for i, d in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 1.0)]]
    assert engine.queued == 4
    model.go.set()
    assert names(futures) == [1, 2, 3, 4]
    assert model.batches == [[0], [2], [4], [3], [1]]


def test_a_batch_holds_the_most_urgent_request_and_those_that_fit(start):
    model = Model(max_batch=3)
    engine = start(model)
    lengths = {1: 400, 2: 800, 3: 400, 4: 400, 5: 800, 6: 400}
    futures = [engine.submit(audio(i, length), deadline=i) for i, length in lengths.items()]
    model.go.set()
    assert names(futures) == list(lengths)
    assert model.batches[1:] == [[1, 3, 4], [2, 5], [6]]
    assert (engine.counters.batch_sizes.count, engine.counters.batch_sizes.total) == (4, 7)
    assert engine.counters.samples == 400 + sum(lengths.values())


def test_a_bad_request_fails_no_other_request(start):
    def fail(batch: list[int]) -> None:
        if 2 in batch:
            raise ValueError("inner secret")

    model = Model(max_batch=4, act=fail)
    engine = start(model)
    futures = [engine.submit(audio(i), deadline=i) for i in (1, 2, 3)]
    model.go.set()
    assert names([futures[0], futures[2]]) == [1, 3]
    with pytest.raises(EngineError, match="ValueError") as error:
        futures[1].result(LIMIT)
    assert "secret" not in str(error.value)
    assert engine.alive
    assert engine.counters.failures == 1
    assert engine.counters.batch_sizes.total == 3  # answered


def test_unwanted_requests_are_not_encoded(start):
    model = Model(max_batch=4)
    engine = start(model)
    wanted = {1: True, 2: False, 3: True}
    futures = [engine.submit(audio(i), deadline=i, wanted=lambda i=i: wanted[i]) for i in wanted]
    futures[2].cancel()
    model.go.set()
    assert names(futures[:1]) == [1]
    for future in futures[1:]:
        with pytest.raises(CancelledError):
            future.result(LIMIT)
    assert sorted(name for batch in model.batches for name in batch) == [0, 1]
    assert engine.counters.withdrawn == 2


def test_a_withdrawn_request_that_fits_no_batch_is_cancelled(start):
    model = Model(max_batch=4)
    engine = start(model)
    first = engine.submit(audio(1), deadline=1)
    other = engine.submit(audio(2, 800), deadline=2, wanted=lambda: False)
    model.go.set()
    assert names([first]) == [1]
    with pytest.raises(CancelledError):
        other.result(LIMIT)


@pytest.mark.parametrize("cancelled", [False, True])
def test_closing_finishes_the_running_batch_and_cancels_waiting_requests(start, cancelled: bool):
    model = Model()
    engine = start(model)
    futures = [engine.submit(audio(i), deadline=i) for i in (1, 2, 3)]
    if cancelled:
        futures[0].cancel()
    closing = threading.Thread(target=engine.close)
    closing.start()
    wait_until(lambda: not engine.alive)
    model.go.set()
    closing.join(LIMIT)
    for future in futures[1:]:
        with pytest.raises(EngineError):
            future.result(LIMIT)
    assert model.batches == [[0]]
    with pytest.raises(EngineError, match="not running"):
        engine.submit(audio(9), deadline=0).result(LIMIT)
    engine.close()
    assert not engine.alive


class Death(BaseException):
    pass


def die(batch: list[int]) -> None:
    raise Death


class Miscounting(Model):
    def encode(self, batch: Sequence[Float32], recalls: Sequence[CachedFeatures | None] = ()) -> list[Float32]:
        return super().encode(batch)[1:]


def misfit(samples: int, others: Sequence[int]) -> bool:
    raise RuntimeError("fits is broken")


def every_waiter_gets_an_answer(engine: Engine, futures: Sequence[Future]) -> None:
    done, left = wait(futures, LIMIT)
    assert not left, "a waiter waits for ever"
    assert all(isinstance(future.exception(), EngineError) for future in done)
    if not engine.alive:
        with pytest.raises(EngineError):
            engine.submit(audio(9), deadline=0).result(LIMIT)


def test_a_dying_worker_answers_every_waiter_and_later_requests_are_refused():
    model = Model(max_batch=2, act=die)
    engine = Engine(model)
    futures = [engine.submit(audio(i), deadline=i) for i in range(5)]
    model.go.set()
    every_waiter_gets_an_answer(engine, futures)
    assert not engine.alive


def test_a_model_that_loses_an_answer_leaves_no_waiter():
    model = Miscounting(max_batch=2)
    engine = Engine(model)
    futures = [engine.submit(audio(i), deadline=i) for i in range(5)]
    model.go.set()
    every_waiter_gets_an_answer(engine, futures)
    engine.close()


def test_a_failure_in_choosing_the_batch_leaves_no_waiter(start):
    model = Model(max_batch=4)
    engine = start(model)
    model.fits = misfit  # type: ignore[method-assign]
    futures = [engine.submit(audio(i), deadline=i) for i in (1, 2, 3)]
    model.go.set()
    every_waiter_gets_an_answer(engine, futures)


def test_a_failing_wanted_callback_leaves_no_waiter(start):
    model = Model(max_batch=4)
    engine = start(model)

    def broken() -> bool:
        raise RuntimeError("gone")

    futures = [engine.submit(audio(1), deadline=1), engine.submit(audio(2), deadline=2, wanted=broken)]
    model.go.set()
    done, left = wait(futures, LIMIT)
    assert len(done) == 2
    assert not left


def test_late_answers_raise_the_level_of_an_adaptive_engine_only(start):
    for adaptive, seen in ((True, Level.FINALS), (False, Level.NORMAL)):
        now = iter(range(0, 10_000))
        model = Model()
        model.go.set()
        engine = Engine(model, adaptive=adaptive, clock=lambda now=now: float(next(now)))
        for name in range(1, 30):
            names([engine.submit(audio(name), deadline=0.0)])
        assert engine.level == seen
        assert engine.counters.late == 29
        engine.close()


def test_late_searches_raise_the_level_and_unwanted_ones_are_skipped(start):
    now = iter(range(0, 10_000))
    engine = Engine(Model(), clock=lambda: float(next(now)))
    for _ in range(30):
        assert engine.search(lambda: "found", deadline=0.0).result(LIMIT) == "found"
    assert engine.level == Level.FINALS
    assert engine.search(lambda: "found", deadline=0.0, wanted=lambda: False).result(LIMIT) is None
    assert (engine.counters.searches, engine.counters.late_searches) == (30, 30)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.search(lambda: "found", deadline=0.0)


def test_many_threads_get_their_own_answers():
    model = Model(max_batch=8)
    model.go.set()
    engine = Engine(model)
    answers: dict[int, list[int]] = {}

    def submit(thread: int) -> None:
        numbers = range(thread * 50, thread * 50 + 50)
        answers[thread] = names([engine.submit(audio(i, 400 + i % 3), deadline=-i) for i in numbers])

    threads = [threading.Thread(target=submit, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    engine.close()
    assert answers == {thread: list(range(thread * 50, thread * 50 + 50)) for thread in range(8)}
    assert engine.counters.batch_sizes.total == 400


def test_an_idle_worker_keeps_no_audio_alive():
    model = Model()
    model.go.set()
    engine = Engine(model)
    samples = audio(1)
    gone = weakref.ref(samples)
    names([engine.submit(samples, deadline=0)])
    names([engine.submit(audio(2), deadline=0)])  # the worker has finished the first one
    del samples
    gc.collect()
    assert gone() is None
    engine.close()
