"""Requests that fail alone, and an encoder that begins a batch before it has answered the one before."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from xlsr_live.streaming.engine.encoder import Answer, Pending
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, CacheHandle

from tests.support.engine_model import LIMIT, Clock, Float32, Model, audio, names, step, wait_until


class Refusing(Model):
    """Answers with an error for these requests."""

    refused = frozenset({3, 5})

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Answer]:
        rows = super().encode_steps(batch)
        return [EngineError("no room") if int(row[0, 0]) in self.refused else row for row in rows]


def test_a_refused_request_fails_alone_and_the_others_run_once(start):
    model = Refusing(max_batch=8)
    engine = start(model)
    futures = [engine.submit(audio(i), deadline=i, reuse=step(CacheHandle(50, 24))) for i in range(1, 9)]
    model.go.set()
    assert names([future for i, future in enumerate(futures, 1) if i not in (3, 5)]) == [1, 2, 4, 6, 7, 8]
    for i in (3, 5):
        with pytest.raises(EngineError, match="no room"):
            futures[i - 1].result(LIMIT)
    assert model.batches[1:] == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert engine.counters.failures == 2
    assert engine.healthy


def test_a_failed_batch_is_halved(start):
    def fail(batch: list[int]) -> None:
        if 3 in batch:
            raise MemoryError

    model = Model(max_batch=8, act=fail)
    engine = start(model)
    futures = [engine.submit(audio(i), deadline=i) for i in range(1, 9)]
    model.go.set()
    assert names([future for i, future in enumerate(futures, 1) if i != 3]) == [1, 2, 4, 5, 6, 7, 8]
    assert model.batches[1:] == [[*range(1, 9)], [1, 2, 3, 4], [1, 2], [3, 4], [3], [4], [5, 6, 7, 8]]


class Pipelined(Model):
    """Its device answers when the test says so; records when batches begin and when their answers are wanted."""

    pipelined = True

    def __init__(self, max_batch: int = 1) -> None:
        super().__init__(max_batch)
        self.record: list[tuple[str, tuple[int, ...]]] = []
        self.begun = threading.Semaphore(0)

    def begin(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None],
        languages: Sequence[str | None] | None = None,
    ) -> Pending:
        these = tuple(int(samples[0]) for samples in batch)
        self.record.append(("begin", these))
        self.begun.release()

        def answers() -> list[Float32]:
            self.record.append(("wait", these))
            self.busy.set()
            assert self.go.wait(LIMIT)
            self._act(list(these))
            return [np.float32([[name]]) for name in these]

        return answers

    def begin_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> Pending:
        return self.begin([samples for samples, _ in batch], ())


def test_the_next_batch_begins_before_the_answers_of_the_one_before(start):
    model = Pipelined()
    engine = start(model)  # request 0 runs
    futures = [engine.submit(audio(i), deadline=i) for i in (1, 2, 3)]
    model.go.set()
    assert names(futures) == [1, 2, 3]
    assert model.record == [
        ("begin", (0,)), ("wait", (0,)), ("begin", (1,)), ("begin", (2,)), ("wait", (1,)), ("begin", (3,)),
        ("wait", (2,)), ("wait", (3,)),
    ]  # fmt: skip
    assert engine.working_s == 0.0


def test_a_failed_batch_is_tried_again_after_the_answers_of_the_one_that_has_begun(start):
    class Broken(Pipelined):
        def begin(self, batch, cached, languages=None) -> Pending:
            if any(int(samples[0]) == 3 for samples in batch):
                self.record.append(("fail", tuple(int(samples[0]) for samples in batch)))
                raise MemoryError
            return super().begin(batch, cached, languages)

    model = Broken(max_batch=4)
    engine = start(model)
    futures = [engine.submit(audio(i), deadline=i) for i in range(1, 6)]
    model.go.set()
    assert names([future for i, future in enumerate(futures, 1) if i != 3]) == [1, 2, 4, 5]
    record = model.record
    assert record[:3] == [("begin", (0,)), ("wait", (0,)), ("fail", (1, 2, 3, 4))]
    assert record.index(("begin", (5,))) < record.index(("wait", (5,))) < record.index(("begin", (1, 2)))


def test_an_utterance_is_never_in_two_batches_at_the_same_time(start):
    model = Pipelined(max_batch=4)
    engine = start(model)
    a, b = CacheHandle(50, 24), CacheHandle(50, 24)
    requests = [(1, step(a)), (2, step(a)), (3, step(b)), (4, CachedFeatures(a, 3)), (5, None)]
    futures = [engine.submit(audio(i), deadline=i, reuse=reuse) for i, reuse in requests]
    model.go.set()
    assert names(futures) == [1, 2, 3, 4, 5]
    waits = [batch for what, batch in model.record if what == "wait"]
    open_batches: list[tuple[int, ...]] = []
    for what, batch in model.record:
        if what == "begin":
            open_batches.append(batch)
            assert sum(name in (1, 2, 4) for each in open_batches for name in each) <= 1
        else:
            open_batches.remove(batch)
    order = [name for batch in waits for name in batch]
    assert order.index(1) < order.index(2) < order.index(4)


def test_requests_behind_a_hanging_batch_get_an_error_with_it():
    clock, model = Clock(), Pipelined()
    engine = Engine(model, clock=clock)
    futures = [engine.submit(audio(i), deadline=i) for i in (1, 2)]
    assert model.busy.wait(LIMIT)
    later = engine.submit(audio(3), deadline=3)
    clock.now = 20.0
    assert engine.replace_stuck_worker(10.0)
    failed = [future for future in futures if future.done()]  # one that had not begun waits for the new worker
    assert futures[0] in failed
    assert all(isinstance(future.exception(), EngineError) for future in failed)
    model.go.set()
    assert names([*(future for future in futures if future not in failed), later])[-1] == 3
    wait_until(lambda: not engine._caches.hung)
    assert engine.alive
    engine.close()


def test_closing_answers_the_batches_that_have_begun():
    model = Pipelined()
    engine = Engine(model)
    futures = [engine.submit(audio(i), deadline=i) for i in (1, 2, 3)]
    assert model.busy.wait(LIMIT)
    closing = threading.Thread(target=engine.close)
    closing.start()
    wait_until(lambda: not engine.alive)
    begun = sum(what == "begin" for what, _ in model.record)
    model.go.set()
    closing.join(LIMIT)
    assert names(futures[:begun]) == list(range(1, begun + 1))
    for future in futures[begun:]:
        with pytest.raises(EngineError):
            future.result(LIMIT)
