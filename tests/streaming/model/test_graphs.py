"""Graphs of a closed set of shapes, on a CPU: a stand-in for graphs runs the program again on the same buffers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from random import Random

import numpy as np
import pytest
import torch
from xlsr_live.streaming.config import ModelOptions, SessionConfig
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import EngineError, ModelError
from xlsr_live.streaming.frames import frames
from xlsr_live.streaming.model import load as loading
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.model.preparing import MOST_GRAPHS, Limits
from xlsr_live.streaming.model.runners import GraphRunner
from xlsr_live.streaming.model.step import StepEncoder
from xlsr_live.streaming.requests import CachedFeatures

from tests.support import random_xlsr
from tests.support.cached_reference import Utterance, difference, fresh
from tests.support.checkpoints import forward, publish
from tests.support.graphs import GraphModel, again
from tests.support.noise import noise

CPU = torch.device("cpu")
SETTING = (12, 12, 50)
CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available here")]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> XlsrEncoder:
    return load(ModelOptions(str(publish(tmp_path_factory.mktemp("m"), normalize=False)), device="cpu"))


@pytest.fixture(scope="module")
def graphs(encoder: XlsrEncoder) -> GraphModel:
    return GraphModel(encoder._model, *SETTING)


def together(steps: StepEncoder, utterances: list[Utterance], most: int = 4) -> None:
    """Run all steps, in batches of the utterances that are ready and fit."""
    random = Random(0)
    while speaking := [utterance for utterance in utterances if utterance.left]:
        random.shuffle(speaking)
        batch: list[Utterance] = []
        for each in speaking[: random.randrange(1, most + 1)]:
            if not batch or steps.fits(each.next[1], [other.next[1] for other in batch]):
                batch.append(each)
        for each, rows in zip(batch, steps.encode_steps([each.next for each in batch]), strict=True):
            each.take(rows)


@pytest.mark.parametrize("setting", [SETTING, (12, 12, 40), (12, 12, 0), (10, 9, 50)])
def test_steps_and_passes_of_every_length_replay_prepared_graphs(
    encoder: XlsrEncoder, graphs: GraphModel, setting: tuple[int, int, int]
):
    """Also for sessions with less left context, which share the slots."""
    before = graphs.runner.graphs, graphs.runner.misses
    utterances = [Utterance(noise(400 + 5_700 * seed, seed), *setting) for seed in range(9)]
    together(graphs.steps, utterances)
    plain = fresh(encoder)
    for utterance in utterances:
        alone = Utterance(utterance.samples, *setting).run(plain)
        assert difference(utterance.rows, alone.rows) < 1e-4
    for at in range(0, 9, 3):
        batch = [utterance.samples for utterance in utterances[at : at + 3]]
        want = [forward(encoder.info.name, samples) for samples in batch]
        recalls = [CachedFeatures(utterance.memory, frames(len(utterance.samples))) for utterance in utterances[at:]]
        assert difference(graphs.wholes.encode(batch, recalls[:3]), want) < 1e-4
        assert difference(graphs.wholes.encode(batch, [None, recalls[1], None]), want) < 1e-4
    for utterance in utterances:
        graphs.steps.release(utterance.memory.number)
    assert (graphs.runner.graphs, graphs.runner.misses) == before, "all shapes were prepared, none while serving"


def test_other_geometries_run_without_graphs(encoder: XlsrEncoder, graphs: GraphModel):
    """A wider hop than the widest, or a longer left context, whose slots lie in another pool."""
    held, captured = graphs.caches.bytes, graphs.runner.graphs
    for setting in ((40, 10, 50), (12, 12, 90)):
        misses = graphs.runner.misses
        utterance = Utterance(noise(40_000), *setting).run(graphs.steps)
        assert difference(utterance.rows, Utterance(noise(40_000), *setting).run(fresh(encoder)).rows) < 1e-4
        assert graphs.runner.misses > misses
    assert graphs.runner.graphs == captured
    assert graphs.caches.bytes > held


def test_a_full_pool_has_no_room_and_does_not_move(encoder: XlsrEncoder):
    model = GraphModel(encoder._model, *SETTING, utterances=2, max_batch=2)
    version, held = model.caches.reserved.version, model.caches.bytes
    one, two, three = (Utterance(noise(20_000, seed), *SETTING) for seed in range(3))
    together(model.steps, [one, two], 2)
    assert model.caches.room(one.memory) == 2
    with pytest.raises(EngineError, match="no room"):
        model.steps.encode_steps([three.next])
    model.steps.release(one.memory.number)
    three.run(model.steps)
    assert (model.caches.reserved.version, model.caches.bytes) == (version, held)


def test_a_step_that_fails_in_a_graph_changes_no_state(encoder: XlsrEncoder, graphs: GraphModel):
    good, bad = (Utterance(noise(40_000, seed), *SETTING) for seed in range(2))
    want = Utterance(good.samples, *SETTING).run(fresh(encoder)).rows
    bad.samples[30_000:] = np.nan
    while bad.left[0].newest < frames(30_000):
        for utterance, rows in zip((good, bad), graphs.steps.encode_steps([good.next, bad.next]), strict=True):
            utterance.take(rows)
    while good.left:
        error, rows = graphs.steps.encode_steps([bad.next, good.next])
        assert isinstance(error, EngineError)
        good.take(rows)
    assert difference(good.rows, want) < 1e-4


# ── captures that fail, and limits ──


def failing(at: int, error: Exception) -> Callable[[Callable[[], torch.Tensor]], object]:
    """A capture that fails at one of its calls."""
    calls = count()

    def capture(program: Callable[[], torch.Tensor]) -> object:
        if next(calls) == at:
            raise error
        return again(program)

    return capture


def test_without_memory_for_a_graph_everything_runs_without_graphs(
    encoder: XlsrEncoder, caplog: pytest.LogCaptureFixture
):
    runner = GraphRunner(CPU, capture=failing(4, torch.OutOfMemoryError("none left")))  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR):
        model = GraphModel(encoder._model, *SETTING, runner=runner)
    assert runner.graphs == 0
    assert len(caplog.records) == 1
    utterance = Utterance(noise(60_000), *SETTING).run(model.steps)
    assert difference(utterance.rows, Utterance(utterance.samples, *SETTING).run(fresh(encoder)).rows) < 1e-4
    assert (runner.graphs, runner.replays) == (0, 0)


def test_any_other_failed_capture_gives_the_process_up(encoder: XlsrEncoder):
    runner = GraphRunner(CPU, capture=failing(2, RuntimeError("operation not permitted")))  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"not permitted\); this process cannot use the device any more: start it"):
        GraphModel(encoder._model, *SETTING, runner=runner)


def test_a_model_whose_graphs_fail_does_not_load(monkeypatch: pytest.MonkeyPatch):
    runner = GraphRunner(CPU, capture=failing(2, RuntimeError("operation not permitted")))  # type: ignore[arg-type]
    encoder = random_xlsr.encoder("tiny", CPU, torch.float32, max_batch=2, runner=runner)
    monkeypatch.setattr(loading, "used_memory", lambda device: 0)
    monkeypatch.setattr(loading, "_GPU_UTTERANCES", 4)
    with pytest.raises(ModelError, match=r"cannot be prepared on cpu: .* start it again"):
        loading._prepare(encoder, runner, CPU)


@pytest.mark.parametrize("limit", ["graphs", "seconds", "bytes"])
def test_limits_end_the_capture_and_the_rest_runs_without_graphs(
    encoder: XlsrEncoder, caplog: pytest.LogCaptureFixture, limit: str
):
    runner = GraphRunner(CPU, capture=again)
    limits = Limits(
        memory=lambda: 10 * runner.graphs,
        most_bytes=49 if limit == "bytes" else 10**6,
        most_s=4.5 if limit == "seconds" else 1e6,
        most_graphs=5 if limit == "graphs" else 10**6,
        clock=lambda: float(runner.graphs),
    )
    with caplog.at_level(logging.INFO):
        model = GraphModel(encoder._model, *SETTING, runner=runner, limits=limits)
    assert runner.graphs == 5
    messages = [record.getMessage() for record in caplog.records]
    assert any(message.startswith("other shapes than these 5 of") for message in messages)
    assert messages[-1].startswith("5 CUDA graphs in 5.0 s")
    utterance = Utterance(noise(60_000), *SETTING).run(model.steps)
    assert difference(utterance.rows, Utterance(utterance.samples, *SETTING).run(fresh(encoder)).rows) < 1e-4
    assert runner.graphs == 5


@pytest.mark.parametrize("batch", [64, 128])
def test_the_defaults_stay_below_the_most_graphs(batch: int):
    runner = GraphRunner(CPU, capture=lambda program: (lambda: None, torch.zeros(1)))
    encoder = random_xlsr.encoder("tiny", CPU, torch.float32, max_batch=batch, runner=runner)
    limits = Limits(memory=lambda: 0, most_bytes=0, most_graphs=10_000, clock=lambda: 0.0)
    encoder.prepare(SessionConfig(), runner, utterances=4, limits=limits)
    assert 30 < runner.graphs <= MOST_GRAPHS
    assert {shape.batch for shapes in runner._prepared.values() for shape in shapes} >= {1, 2, 4, 8, 16, 32, 48, 64}


# ── two batches at a time ──


def test_a_batch_may_begin_before_the_one_before_it_is_read(encoder: XlsrEncoder, graphs: GraphModel):
    utterances = [Utterance(noise(30_000, seed), *SETTING) for seed in range(4)]
    plain = fresh(encoder)
    pairs = utterances[:2], utterances[2:]
    while pairs[0][0].left:
        started = [graphs.steps.begin([each.next for each in pair]) for pair in pairs]
        for pair, answers in zip(pairs, started, strict=True):
            for each, rows in zip(pair, answers(), strict=True):
                each.take(rows)
    for utterance in utterances:
        assert difference(utterance.rows, Utterance(utterance.samples, *SETTING).run(plain).rows) < 1e-4
        graphs.steps.release(utterance.memory.number)


def test_a_pipelined_engine_gives_the_answers_of_a_plain_one():
    runner = GraphRunner(CPU, capture=again)
    encoder = random_xlsr.encoder("tiny", CPU, torch.float32, max_batch=4, runner=runner)
    encoder.prepare(
        SessionConfig(), runner, utterances=16, limits=Limits(lambda: 0, 0, most_graphs=40, clock=lambda: 0.0)
    )
    assert encoder.pipelined
    plain = random_xlsr.encoder("tiny", CPU, torch.float32, max_batch=1)
    assert not plain.pipelined
    answers: list[list[np.ndarray]] = []
    for each in (encoder, plain):
        engine = Engine(each)
        utterances = [Utterance(noise(40_000 + 900 * seed, seed), 24, 24, 200) for seed in range(9)]
        futures = [
            engine.submit(utterance.samples[slice(*window.new_samples)], deadline=index, reuse=step)
            for utterance in utterances
            for index, window in enumerate(list(utterance.left))
            if (step := utterance.next[1]._replace(window=window))
        ]
        futures += [engine.submit(utterance.samples, deadline=9.0) for utterance in utterances]
        answers.append([future.result(60) for future in futures])
        assert engine.counters.failures == 0
        engine.close()
    assert difference(*answers) < 1e-4
    assert runner.replays > 9


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_cached_keys_and_values_are_gathered_exactly(device: str):
    from xlsr_live.streaming.model import gathering

    ring = torch.randn(5, 7, 16, device=device, dtype=torch.bfloat16)
    own = torch.randn(3, 2, 16, device=device, dtype=torch.bfloat16)
    slots = torch.tensor([4, 0, 4], device=device)
    whole = gathering.with_cached(ring, slots, own)
    assert torch.equal(whole, torch.cat((ring[slots], own), 1))
    wide = torch.empty_like(whole)
    gathering.gather_wide(ring, slots, wide[:, :7])
    assert torch.equal(wide[:, :7], ring[slots])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available here")
def test_replayed_steps_on_a_gpu_equal_direct_ones(encoder: XlsrEncoder):
    device = torch.device("cuda")
    model = random_xlsr.weights("tiny", device)
    graphs = GraphModel(model, *SETTING, runner=GraphRunner(device))
    plain = random_xlsr.encoder("tiny", device, torch.float32, max_batch=1)
    utterances = [Utterance(noise(400 + 2_900 * seed, seed), *SETTING) for seed in range(18)]
    together(graphs.steps, utterances)
    assert graphs.runner.replays > 20
    for utterance in utterances:
        assert difference(utterance.rows, Utterance(utterance.samples, *SETTING).run(plain).rows) < 1e-3
