"""The link between fronts and the engine: the same answers as without it, and nothing lost when a side ends."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server.processes import link as link_module
from xlsr_live.server.processes.engine_host import EngineHost
from xlsr_live.server.processes.link import LinkMemory
from xlsr_live.server.processes.messages import FrontMessage, SentArray, from_front
from xlsr_live.server.processes.remote_engine import ENDED, RESTARTING, RemoteEngine
from xlsr_live.server.processes.remote_model import describe
from xlsr_live.server.processes.ring import Ring, ring_bytes
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.engine.queue import EncodeJob
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.requests import CachedFeatures, CacheHandle

from tests.support.engine_model import LIMIT, Model, audio, step, wait_until
from tests.support.fakes import FakeEncoder
from tests.support.wire import settles

SPAWN = multiprocessing.get_context("spawn")
START_S = 3 * LIMIT  # for another process to start


class Echo(Model):
    """Answers every request with its samples, (n, 1); fails on the request 13."""

    def encode(self, batch: Any, recalls: Any = ()) -> list[Any]:
        super().encode(batch)
        return [EngineError("no") if int(samples[0]) == 13 else samples[:, None].copy() for samples in batch]


def description() -> Any:
    with Recognizer(FakeEncoder()) as recognizer:
        return describe(recognizer, limit=4)


@contextmanager
def hosted(model: Model, address: Path) -> Generator[tuple[Engine, EngineHost]]:
    engine = Engine(model)
    host = EngineHost(engine, None, description(), str(address))
    try:
        yield engine, host
    finally:
        host.close()
        model.go.set()
        engine.close()


@contextmanager
def front(address: Path) -> Generator[RemoteEngine]:
    remote = RemoteEngine(str(address))
    try:
        remote.description.result(START_S)
        yield remote
    finally:
        remote.close(LIMIT)


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "engine"


def test_arrays_leave_a_ring_as_they_entered_it():
    memory = memoryview(bytearray(ring_bytes(100)))
    writer, reader = Ring(memory), Ring(memory)
    random = np.random.default_rng(0)
    waiting: list[tuple[int, np.ndarray]] = []
    moved = 0
    while moved < 500:
        array = random.normal(size=random.integers(0, 40)).astype(np.float32)
        if (place := writer.put(array)) is not None:
            waiting.append((place, array))
        else:
            assert waiting  # an empty ring has room
        if place is None or random.random() < 0.4:
            place, array = waiting.pop(0)
            assert np.array_equal(reader.take(place, array.size), array)
            moved += 1


def test_samples_and_rows_cross_bit_for_bit(address: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "AUDIO", 4_000)  # the rings are full most of the time
    monkeypatch.setattr(link_module, "ROWS", 3_000)
    model, random = Echo(max_batch=4), np.random.default_rng(1)
    model.go.set()
    with hosted(model, address), front(address) as remote, front(address) as other:
        sent = [random.normal(size=size).astype(np.float32) for size in random.integers(1, 1_500, 200)]
        sent[7] = random.normal(size=5_000).astype(np.float32)  # larger than the ring
        futures = [(remote, other)[at % 2].submit(samples, deadline=0.0) for at, samples in enumerate(sent)]
        for samples, future in zip(sent, futures, strict=True):
            rows = future.result(LIMIT)
            assert rows.dtype == np.float32
            assert np.array_equal(rows[:, 0].view(np.uint32), samples.view(np.uint32))
        assert remote.counters.samples == sum(len(samples) for samples in sent[::2])
        wait_until(lambda: remote.counters.batch_sizes.count > 0)  # of the engine
    assert not remote.alive


def test_a_request_that_fails_fails_alone_with_the_same_sentence(address: Path):
    model = Echo()
    model.go.set()
    with hosted(model, address), front(address) as remote:
        bad, good = remote.submit(audio(13), deadline=0.0), remote.submit(audio(1), deadline=1.0)
        with pytest.raises(EngineError, match=r"^no$"):
            bad.result(LIMIT)
        assert good.result(LIMIT)[0, 0] == 1
        assert remote.counters.failures == 1


def test_unwanted_requests_are_withdrawn(address: Path):
    model = Model()
    with hosted(model, address), front(address) as remote:
        first = remote.submit(audio(1), deadline=0.0)
        assert model.busy.wait(LIMIT)
        wanted = True
        second = remote.submit(audio(2), deadline=1.0, wanted=lambda: wanted)
        third = remote.submit(audio(3), deadline=2.0)
        wait_until(lambda: remote.queued == 2)
        wanted = False
        with pytest.raises(CancelledError):
            second.result(LIMIT)
        wait_until(lambda: remote._withdrawn == [] and 2 not in remote._waiting)
        last = remote.submit(audio(4), deadline=-1.0)  # sent after the withdrawal
        wait_until(lambda: remote.queued == 3)
        model.go.set()
        assert [future.result(LIMIT)[0, 0] for future in (first, third, last)] == [1, 3, 4]
    assert model.batches == [[1], [4], [3]]
    assert remote.counters.withdrawn == 1


def test_caches_are_freed_when_they_are_released_collected_or_their_front_ends(address: Path):
    model = Model()
    model.go.set()
    with hosted(model, address) as (_, host):
        with front(address) as remote:
            handles = [CacheHandle(10, 5) for _ in range(3)]
            for handle in handles:
                remote.submit(audio(1), deadline=0.0, reuse=step(handle)).result(LIMIT)
            remote.submit(audio(2), deadline=0.0, reuse=CachedFeatures(handles[2], 1)).result(LIMIT)
            numbers = [number for number, what in model.applied if what == 1]
            assert len(set(numbers)) == 3
            remote.release(handles[0])
            wait_until(lambda: (numbers[0], "released") in model.applied)
            del handle
            handles[1] = handles[0]
            gc.collect()
            wait_until(lambda: (numbers[1], "released") in model.applied)
            assert (numbers[2], "released") not in model.applied
        wait_until(lambda: (numbers[2], "released") in model.applied)
        wait_until(lambda: host.fronts == 0)


def hold_caches(address: str, ready: Any) -> None:
    remote = RemoteEngine(address)
    remote.description.result(LIMIT)
    handle = CacheHandle(10, 5)
    remote.submit(audio(1), deadline=0.0, reuse=step(handle)).result(LIMIT)
    remote.submit(audio(2), deadline=0.0, reuse=step(handle))  # never answered
    ready.send(None)
    threading.Event().wait()


def test_a_killed_front_frees_its_caches_and_withdraws_its_requests(address: Path):
    model = Model(act=lambda names: model.go.clear() if names == [1] else None)
    model.go.set()
    with hosted(model, address) as (engine, host):
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=hold_caches, args=(str(address), theirs))
        process.start()
        assert ours.poll(START_S)
        wait_until(lambda: len(model.batches) == 2)  # the second step hangs in the model
        with front(address) as remote:
            waiting = remote.submit(audio(3), deadline=0.0)
            process.kill()
            process.join()
            wait_until(lambda: host.fronts == 1)
            model.go.set()
            assert waiting.result(LIMIT)[0, 0] == 3
        wait_until(lambda: [what for _, what in model.applied] == [1, 2, "released"])
        assert engine.queued == 0


def run_engine(address: str) -> None:
    model = Model()
    model.go.set()
    model._act = lambda names: model.go.clear() if names == [9] else None
    with hosted(model, Path(address)):
        threading.Event().wait()


def started(address: Path) -> Any:
    address.unlink(missing_ok=True)
    process = SPAWN.Process(target=run_engine, args=(str(address),))
    process.start()
    return process


def test_a_killed_engine_fails_everything_that_waits_and_the_next_one_serves(address: Path):
    process = started(address)
    with front(address) as remote:
        handle = CacheHandle(10, 5)
        assert remote.submit(audio(1), deadline=0.0, reuse=step(handle)).result(LIMIT)[0, 0] == 1
        wait_until(lambda: remote.healthy)
        hanging: list[Future[Any]] = [remote.submit(audio(9), deadline=0.0)]
        hanging += [remote.submit(audio(name), deadline=1.0) for name in range(20)]
        assert hanging[0].result(LIMIT)[0, 0] == 9
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        for future in hanging[1:]:
            with pytest.raises(EngineError, match=ENDED):
                future.result(LIMIT)
        wait_until(lambda: not remote.healthy)
        assert remote.alive
        with pytest.raises(EngineError, match=RESTARTING):
            remote.submit(audio(1), deadline=0.0).result(LIMIT)
        remote.release(handle)  # of the engine that has ended
        process = started(address)
        assert settles(lambda: remote.healthy, True, START_S)
        assert remote.submit(audio(2), deadline=0.0, reuse=step(CacheHandle(10, 5))).result(LIMIT)[0, 0] == 2
    process.kill()
    process.join()


def test_no_shared_memory_stays_when_a_link_ends(address: Path):
    model = Model()
    model.go.set()
    with hosted(model, address), front(address) as remote:
        remote.submit(audio(1), deadline=0.0).result(LIMIT)
        name = cast(Any, remote._link)._memory.greeting.memory
        assert name not in os.listdir("/dev/shm")  # it is gone while both use it
    memory = LinkMemory(100, 100)
    assert memory.greeting.memory in os.listdir("/dev/shm")
    memory.unlink()
    assert memory.greeting.memory not in os.listdir("/dev/shm")
    memory.close()


def test_a_full_ring_at_the_first_request_keeps_its_cache():
    """The engine must know a cache before the first request that uses it."""

    class FullLink:
        def __init__(self) -> None:
            self.known, self.sent = set[int](), list[FrontMessage]()

        def send_array(self, array: NDArray[np.float32], flush: Callable[[], None]) -> SentArray:
            flush()
            return SentArray(array.size, 0)

        def send(self, message: bytes) -> None:
            self.sent.append(from_front.decode(message))

    handle = CacheHandle(200, 24, 1_000)
    job = EncodeJob(0.0, 0.0, np.zeros(16, np.float32), lambda: True, CachedFeatures(handle, 1), Future(), None)
    link = FullLink()
    RemoteEngine._send_all(cast(Any, None), cast(Any, link), [(1, job)], [], [])
    (message,) = link.sent
    assert [each.number for each in message.caches] == [handle.number]
    assert [each.cache for each in message.requests] == [handle.number]
