"""Fixed shapes and replayed graphs on a CPU: a stand-in for graphs runs the program again on the same buffers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.frames import frames, span
from xlsr_live.streaming.model.cache import CacheManager
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.full_pass import PassEncoder
from xlsr_live.streaming.model.layers import XlsrLayers
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.model.readback import BEST, pack, unpack
from xlsr_live.streaming.model.runners import EagerRunner, GraphRunner, Runner
from xlsr_live.streaming.model.step import StepEncoder
from xlsr_live.streaming.requests import CachedFeatures, CacheHandle

from tests.support.cached_reference import Utterance, difference
from tests.support.checkpoints import LETTERS, SMALL, SMALL_MMS, publish
from tests.support.noise import noise

Float32 = np.ndarray
CPU = torch.device("cpu")
SETTING = (12, 12, 50)
_Reference: Any = cache(Wav2Vec2ForCTC.from_pretrained)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available here")


def again(program: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """The interface of `CudaCapture`: a replay that runs again on the same buffers."""
    answer = program()

    def replay() -> None:
        answer.copy_(program())

    return replay, answer


@torch.inference_mode()
def forward(encoder: XlsrEncoder, samples: Float32) -> Float32:
    """Rows of transformers' own forward of the checkpoint, (frames, vocabulary)."""
    return _Reference(encoder.info.name)(torch.from_numpy(samples)[None]).logits[0].log_softmax(-1).numpy()


class Model:
    """Steps and passes of one checkpoint over the same slots."""

    def __init__(self, encoder: XlsrEncoder, runner: Runner, best: int | None = None) -> None:
        self.network = XlsrLayers(encoder._model)
        self.runner = runner
        self.caches = CacheManager(self.network.pool, most_bytes=1 << 28)
        self.steps = StepEncoder(self.network, self.caches, runner, best=best)
        self.wholes = PassEncoder(self.network, self.caches, runner, best=best)

    def encode(self, batch: list[Float32], recalls: list[CachedFeatures | None] | None = None) -> list[Float32]:
        return self.wholes.encode(batch, recalls or [None] * len(batch))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> XlsrEncoder:
    return load(ModelOptions(str(publish(tmp_path_factory.mktemp("m"), normalize=False)), device="cpu"))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def together(model: Model, utterances: list[Utterance]) -> None:
    """Run all steps, in batches of the utterances that are ready and fit."""
    random = Random(0)
    while speaking := [utterance for utterance in utterances if utterance.left]:
        random.shuffle(speaking)
        batch: list[Utterance] = []
        for each in speaking[: random.randrange(1, 6)]:
            if not batch or model.steps.fits(each.next[1], [other.next[1] for other in batch]):
                batch.append(each)
        for each, rows in zip(batch, model.steps.encode_steps([each.next for each in batch]), strict=True):
            each.take(rows)


# ── graphs ──


def test_replayed_steps_and_passes_equal_direct_ones(encoder: XlsrEncoder):
    graphs = GraphRunner(CPU, capture=again)
    model, plain = Model(encoder, graphs), Model(encoder, EagerRunner(CPU))
    utterances = [Utterance(noise(400 + 1_700 * seed, seed), *SETTING) for seed in range(30)]
    together(model, utterances)
    assert graphs.replays > 20
    for utterance in utterances:
        alone = Utterance(utterance.samples, *SETTING).run(plain.steps)
        assert difference(utterance.rows, alone.rows) < 1e-4
    for _ in range(4):
        batch = [utterance.samples for utterance in utterances[10:13]]
        replays = graphs.replays
        recalls = [CachedFeatures(utterance.memory, 20) for utterance in utterances[10:13]]
        assert difference(model.encode(batch, recalls), plain.encode(batch)) < 1e-4
        assert difference(model.encode(batch), plain.encode(batch)) < 1e-4
    assert graphs.replays == replays + 2


@pytest.mark.gpu
@needs_cuda
def test_replayed_steps_on_a_gpu_equal_direct_ones(tmp_path: Path):
    encoder = load(ModelOptions(str(publish(tmp_path)), device="cuda", dtype="float32"))
    graphs = GraphRunner(encoder._model.device)
    model, plain = Model(encoder, graphs), Model(encoder, EagerRunner(encoder._model.device))
    utterances = [Utterance(noise(400 + 1_700 * seed, seed), *SETTING) for seed in range(30)]
    together(model, utterances)
    assert graphs.replays > 20
    for utterance in utterances:
        assert difference(utterance.rows, Utterance(utterance.samples, *SETTING).run(plain.steps).rows) < 1e-3


def test_a_step_that_fails_in_a_graph_changes_no_state(encoder: XlsrEncoder):
    graphs = GraphRunner(CPU, capture=again)
    model = Model(encoder, graphs)
    good, bad = (Utterance(noise(40_000, seed), *SETTING) for seed in range(2))
    want = Utterance(good.samples, *SETTING).run(Model(encoder, EagerRunner(CPU)).steps).rows
    bad.samples[30_000:] = np.nan
    while bad.left[0].newest < frames(30_000):
        for utterance, rows in zip((good, bad), model.steps.encode_steps([good.next, bad.next]), strict=True):
            utterance.take(rows)
    while good.left:
        with pytest.raises(EngineError, match="not finite"):
            model.steps.encode_steps([bad.next, good.next])
        good.take(model.steps.encode_steps([good.next])[0])
    assert graphs.replays > 6
    assert difference(good.rows, want) < 1e-4


def test_pools_grow_under_graphs_and_shapes_can_be_prepared(encoder: XlsrEncoder):
    graphs = GraphRunner(CPU, capture=again)
    model = Model(encoder, graphs)
    model.steps.prepare(CacheHandle(50, 12), hop=12, utterances=10, most_batch=8)
    assert graphs.replays == 4  # batches of 8, 4, 2, 1
    room = model.caches.bytes
    utterances = [Utterance(noise(20_000, seed), *SETTING) for seed in range(20)]  # more than the initial slots
    for utterance in utterances[:10]:
        utterance.take(model.steps.encode_steps([utterance.next])[0])
    assert model.caches.bytes == room
    together(model, utterances[:10])
    together(model, utterances[10:])
    assert model.caches.bytes > room
    plain = Model(encoder, EagerRunner(CPU))
    for utterance in utterances:
        assert difference(utterance.rows, Utterance(utterance.samples, *SETTING).run(plain.steps).rows) < 1e-4


def test_without_capture_steps_run_directly(encoder: XlsrEncoder, caplog: pytest.LogCaptureFixture):
    def refuse(program: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        raise RuntimeError("no graphs here")

    graphs = GraphRunner(CPU, capture=refuse)
    utterance = Utterance(noise(60_000), *SETTING)
    want = Utterance(utterance.samples, *SETTING).run(Model(encoder, EagerRunner(CPU)).steps)
    with caplog.at_level(logging.ERROR):
        utterance.run(Model(encoder, graphs).steps)
    assert difference(utterance.rows, want.rows) < 1e-4
    assert graphs.replays == 0
    assert len(caplog.records) == 1


def test_shapes_are_few_and_never_too_small():
    graphs = GraphRunner(CPU, capture=again)
    assert [graphs.batch(n) for n in (1, 2, 3, 5, 64, 65)] == [1, 2, 4, 8, 64, 128]
    sizes = [graphs.frames(n) for n in range(3_000)]
    assert sizes[0] == 0
    assert all(size >= n and size % 8 == 0 for n, size in enumerate(sizes))
    assert all(size <= 1.34 * n for n, size in enumerate(sizes) if n > 24)
    assert len(set(sizes)) < 35


# ── features that are recalled ──


@pytest.mark.parametrize("kind", ["random", "adapters", "odd kernel"])
def test_a_pass_that_recalls_features_is_the_plain_pass(tmp_path: Path, kind: str):
    size = {"random": SMALL, "adapters": SMALL_MMS, "odd kernel": SMALL | {"num_conv_pos_embeddings": 15}}[kind]
    encoder = load(ModelOptions(str(publish(tmp_path, size, normalize=False)), device="cpu"))
    model = Model(encoder, EagerRunner(CPU))
    utterances = [Utterance(noise(length, length), *SETTING) for length in (400, 9_000, 20_001, 30_000)]
    batch, recalls = [], []
    for utterance in utterances:
        while utterance.left:
            recalls_now = utterance.left[0].newest
            utterance.take(model.steps.encode_steps([utterance.next])[0])
        batch += [utterance.samples, utterance.samples[: len(utterance.samples) // 2 + 200]]
        recalls += [CachedFeatures(utterance.memory, recalls_now), CachedFeatures(utterance.memory, recalls_now)]
    plain = [forward(encoder, samples) for samples in batch]
    together = model.encode(batch, recalls)
    assert difference(together, plain) < 1e-4
    for samples, recall, rows in zip(batch, recalls, plain, strict=True):
        for known in {0, recall.frames // 2, recall.frames}:
            once, twice = (model.encode([samples], [CachedFeatures(recall.cache, known)])[0] for _ in range(2))
            assert np.abs(once - rows).max() < 1e-4
            assert np.abs(once - model.encode([samples])[0]).max() < 1e-5
            assert np.array_equal(once, twice)


def test_uncached_features_are_computed_again(encoder: XlsrEncoder):
    model = Model(encoder, EagerRunner(CPU))
    samples = noise(30_000)
    (want,) = model.encode([samples])
    spoken = Utterance(samples, *SETTING)
    spoken.take(model.steps.encode_steps([spoken.next])[0])
    beyond = CachedFeatures(spoken.memory, spoken.left[0].newest)
    (rows,) = model.encode([samples], [beyond])  # one step behind
    assert np.array_equal(rows, want)
    model.steps.release(spoken.memory.number)
    (rows,) = model.encode([samples], [CachedFeatures(spoken.memory, 12)])
    assert np.array_equal(rows, want)


def test_an_utterance_longer_than_declared_gets_its_steps_and_no_cached_features(encoder: XlsrEncoder):
    model = Model(encoder, EagerRunner(CPU))
    utterance = Utterance(noise(span(620), 3), 20, 12, 50)
    want = Utterance(utterance.samples, 20, 12, 50).run(model.steps).rows
    utterance.memory = CacheHandle(50, 12, longest=100)  # room for 500 and the reach of the position convolution
    end = 0
    while utterance.left:
        end = utterance.left[0].newest
        utterance.take(model.steps.encode_steps([utterance.next])[0])
    assert difference(utterance.rows, want) < 1e-5
    (rows,) = model.encode([utterance.samples], [CachedFeatures(utterance.memory, end)])
    assert np.array_equal(rows, model.encode([utterance.samples])[0])
    long = Utterance(noise(span(501)), 600, 0, 0)
    long.memory = CacheHandle(0, 0, longest=500)
    with pytest.raises(EngineError, match="longer than"):
        long.run(model.steps)


@pytest.mark.parametrize("length", [4_000, 16_000])
def test_passes_equal_the_forward_of_the_model_in_any_batch(encoder: XlsrEncoder, length: int):
    batch = [noise(length - 300 * index, index) for index in range(5)] + [noise(length, 9)]
    model = Model(encoder, EagerRunner(CPU))
    for samples, rows in zip(batch, model.encode(batch), strict=True):
        assert rows.shape == (frames(len(samples)), len(LETTERS))
        assert np.abs(rows - forward(encoder, samples)).max() < 1e-4


# ── answers ──


def test_the_best_tokens_of_large_vocabularies_are_exact(tmp_path: Path):
    tokens = ("<pad>", "<s>", "</s>", "<unk>", "|", *(chr(0x4E00 + index) for index in range(300)))
    encoder = load(ModelOptions(str(publish(tmp_path, SMALL, tokens, normalize=False)), device="cpu"))
    few, all_ = Model(encoder, EagerRunner(CPU), best=BEST), Model(encoder, EagerRunner(CPU))
    utterance, whole = (Utterance(noise(30_000), *SETTING) for _ in range(2))
    utterance.run(few.steps), whole.run(all_.steps)
    samples = noise(9_000)
    pairs = [*zip(utterance.rows, whole.rows, strict=True), (few.encode([samples])[0], all_.encode([samples])[0])]
    for rows, want in pairs:
        assert np.array_equal(rows.argmax(1), want.argmax(1))
        best = np.argsort(-want, 1, kind="stable")[:, :BEST]
        assert np.array_equal(np.take_along_axis(rows, best, 1), np.take_along_axis(want, best, 1))
        assert np.allclose(np.exp(rows.astype(np.float64)).sum(1), 1, atol=1e-5)
        assert (np.sort(rows, 1)[:, -BEST - 1] <= np.sort(rows, 1)[:, -BEST]).all()


@pytest.mark.parametrize("best", [None, 4])
def test_padding_rows_need_not_be_finite(best: int | None):
    rows = torch.randn(2, 3, 9).log_softmax(-1)
    rows[1, 2] = torch.nan
    valid = torch.ones(2, 3, dtype=torch.bool)
    assert unpack(pack(rows, valid, best=best)[0].numpy(), 2, 9, best=best) is None
    valid[1, 2] = False
    answer = unpack(pack(rows, valid, best=best)[0].numpy(), 2, 9, best=best)
    assert np.array_equal(answer[0].argmax(1), rows[0].argmax(1))


def test_a_row_with_one_certain_token_has_a_finite_rest():
    rows = torch.full((1, 1, 100), -1e4)
    rows[0, 0, 70] = 0
    answer = unpack(pack(rows, torch.ones(1, 1, dtype=torch.bool), best=BEST)[0].numpy(), 1, 100, best=BEST)
    assert np.isfinite(answer).all()
    assert answer.argmax() == 70
