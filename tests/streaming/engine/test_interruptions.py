"""Live steps between the layers of a full pass: those that would be late after it, and no more than it can bear."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.engine.encoder import Answer, Pause
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, CacheHandle

from tests.support.cached_reference import Utterance
from tests.support.checkpoints import SMALL, publish
from tests.support.engine_model import LIMIT, Clock, Float32, Model, audio, step
from tests.support.noise import noise

LAYERS = 10
PASS = 100  # name of the request


class Layered(Model):
    """A pass takes a second for each of its layers, a batch of steps a quarter of one. `arrive` may add requests."""

    interruptible = True

    def __init__(self, clock: Clock, max_batch: int = 4) -> None:
        super().__init__(max_batch)
        self.go.set()
        self.clock = clock
        self.step_s = 0.25
        self.slow: dict[int, float] = {}  # seconds of a layer
        self.arrive: Callable[[int], None] = lambda layer: None
        self.order: list[object] = []

    def encode(
        self,
        batch: Sequence[Float32],
        recalls: Sequence[CachedFeatures | None] = (),
        languages: Sequence[str | None] | None = None,
        pause: Pause | None = None,
    ) -> list[Answer]:
        if pause is not None:
            for layer in range(LAYERS):
                self.arrive(layer)
                self.order.append(layer)
                pause(layer / LAYERS)
                self.clock.now += self.slow.get(layer, 1.0)
        return super().encode(batch, recalls)

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Answer]:
        self.clock.now += self.step_s
        self.order.append([int(samples[0]) for samples, _ in batch])
        return super().encode_steps(batch)


@pytest.fixture
def model() -> Layered:
    return Layered(Clock())


@pytest.fixture
def engine(model: Layered) -> Iterator[Engine]:
    engine = Engine(model, clock=model.clock, adaptive=False)
    yield engine
    engine.close()


def during(
    model: Layered, engine: Engine, arrivals: dict[int, list[tuple[int, float]]], own: CacheHandle | None = None
) -> dict[int, Future[Float32]]:
    """Run a pass; before each of these layers, steps with these names and deadlines arrive: of other utterances, or of
    the pass's `own`. Returns all answers."""
    futures: dict[int, Future[Float32]] = {}

    def arrive(layer: int) -> None:
        for name, deadline in arrivals.get(layer, ()):
            futures[name] = engine.submit(audio(name), deadline=deadline, reuse=step(own or CacheHandle(50, 24)))

    model.arrive = arrive
    futures[PASS] = engine.submit(audio(PASS), deadline=0.0, reuse=CachedFeatures(own, 1) if own else None)
    futures[PASS].exception(LIMIT)
    for future in futures.values():
        future.exception(LIMIT)
    return futures


def test_a_step_that_would_be_late_runs_between_two_layers(model: Layered, engine: Engine):
    futures = during(model, engine, {3: [(1, 9.0)]})
    assert model.order == [*range(4), [1], *range(4, LAYERS)]
    assert [int(futures[name].result()[0, 0]) for name in (1, PASS)] == [1, PASS]
    assert engine.counters.busy_s == LAYERS + 0.25
    assert engine.counters.late == 1  # the pass, which was due at once


def test_a_step_with_enough_time_waits_for_the_end(model: Layered, engine: Engine):
    during(model, engine, {3: [(1, 30.0)]})
    assert model.order == [*range(LAYERS), [1]]


def test_a_slower_layer_moves_the_expected_end_beyond_the_deadline(model: Layered, engine: Engine):
    model.slow = {4: 5.0}
    during(model, engine, {3: [(1, 11.0)]})
    assert model.order == [*range(6), [1], *range(6, LAYERS)]
    assert engine.counters.late == 1


def test_a_step_with_enough_time_does_not_follow_one_that_cannot_run(model: Layered, engine: Engine):
    own = CacheHandle(50, 24)
    model.arrive = lambda layer: (
        [
            engine.submit(audio(1), deadline=0.0, reuse=step(own)),
            engine.submit(audio(2), deadline=30.0, reuse=step(CacheHandle(50, 24))),
        ]
        if layer == 3
        else None
    )
    engine.submit(audio(PASS), deadline=0.0, reuse=CachedFeatures(own, 1)).result(LIMIT)
    engine.submit(audio(3), deadline=1e9).result(LIMIT)
    assert model.order[:LAYERS] == [*range(LAYERS)]


def test_a_cache_that_was_released_during_the_pass_is_freed_before_the_step(model: Layered, engine: Engine):
    own, other = CacheHandle(50, 24), CacheHandle(50, 24)
    engine.submit(audio(1), deadline=0.0, reuse=step(other)).result(LIMIT)
    late: list[Future[Float32]] = []

    def arrive(layer: int) -> None:
        if layer == 3 and not late:
            engine.release(own)
            engine.release(other)
            late.append(engine.submit(audio(2), deadline=0.0, reuse=step(CacheHandle(50, 24))))

    model.arrive = arrive
    engine.submit(audio(PASS), deadline=0.0, reuse=CachedFeatures(own, 1)).result(LIMIT)
    late[0].result(LIMIT)
    engine.submit(audio(3), deadline=1e9).result(LIMIT)
    happened = [what if what == 2 else number for number, what in model.applied if what in (2, "released")]
    assert happened[:2] == [other.number, 2]
    assert own.number in happened[2:]  # only after its pass


def test_others_that_fit_share_the_interruption(model: Layered, engine: Engine):
    during(model, engine, {3: [(1, 9.0), (2, 30.0), (3, 9.5)]})
    assert model.order == [*range(4), [1, 3, 2], *range(4, LAYERS)]


def test_steps_take_at_most_as_long_as_the_layers(model: Layered, engine: Engine):
    model.max_batch, model.step_s = 1, 3.0
    futures = during(model, engine, {1: [(name, 0.0) for name in range(1, 31)]})
    steps = [at for at, each in enumerate(model.order) if isinstance(each, list)]
    inside = [at for at in steps if at < model.order.index(LAYERS - 1)]
    assert 2 <= len(inside) <= 4
    assert all(futures[name].done() for name in range(1, 31))


def test_a_step_that_fails_between_layers_fails_alone(model: Layered, engine: Engine):
    def fail(names: list[int]) -> None:
        if 2 in names:
            raise MemoryError

    model._act = fail
    futures = during(model, engine, {3: [(1, 5.0), (2, 5.0), (3, 5.0)]})
    assert [int(futures[name].result()[0, 0]) for name in (1, 3, PASS)] == [1, 3, PASS]
    with pytest.raises(EngineError, match="MemoryError"):
        futures[2].result()
    assert engine.healthy


def test_a_step_of_the_same_utterance_waits(model: Layered, engine: Engine):
    handle = CacheHandle(50, 24)
    during(model, engine, {3: [(1, 0.0)]}, handle)
    assert model.order == [*range(LAYERS), [1]]


def test_a_batch_that_cannot_be_filled_ends_the_worker_not_only_the_pass(model: Layered, engine: Engine):
    def broken(*_: object) -> bool:
        raise RuntimeError("a mistake in the model")

    model.fits_step = broken
    futures = during(model, engine, {3: [(1, 5.0), (2, 5.0)]})
    for future in futures.values():
        with pytest.raises(EngineError, match="stopped before"):
            future.result()
    assert not engine.alive


def test_a_worker_replaced_in_a_step_between_layers(model: Layered, engine: Engine):
    def hang(names: list[int]) -> None:
        if names == [1] and engine._generation == 0:
            model.clock.now += 100.0
            assert engine.replace_stuck_worker(10.0)

    model._act = hang
    futures = during(model, engine, {3: [(1, 5.0)]})
    for future in futures.values():
        with pytest.raises(EngineError, match="did not answer"):
            future.result()
    model.arrive = lambda layer: None
    assert int(engine.submit(audio(7), deadline=0.0).result(LIMIT)[0, 0]) == 7


def test_interrupted_passes_and_their_steps_are_the_same_bit_for_bit(tmp_path: Path):
    encoder = load(ModelOptions(str(publish(tmp_path, SMALL, normalize=False)), device="cpu"))
    assert encoder.interruptible
    samples = noise(30_000)
    setting = (12, 12, 50)
    other, twin = (Utterance(noise(60_000, 7), *setting) for _ in range(2))
    own, same = (Utterance(samples, *setting) for _ in range(2))
    for utterance in (own, same):
        utterance.take(encoder.encode_steps([utterance.next])[0])
    recalls = [[CachedFeatures(each.memory, 24)] for each in (own, same)]
    (want,) = encoder.encode([samples], recalls[0])
    shares = []

    def pause(share: float) -> None:
        shares.append(share)
        if other.left:
            other.take(encoder.encode_steps([other.next])[0])

    (rows,) = encoder.encode([samples], recalls[1], pause=pause)
    assert shares == [layer / len(shares) for layer in range(SMALL["num_hidden_layers"])]
    assert np.array_equal(rows, want)
    other.run(encoder)
    twin.run(encoder)
    assert all(np.array_equal(a, b) for a, b in zip(other.rows, twin.rows, strict=True))
