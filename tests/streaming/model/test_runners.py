"""Fixed shapes and replayed graphs on a CPU: a stand-in for graphs runs the program again on the same buffers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.frames import frames, span
from xlsr_live.streaming.model.cache import CacheManager
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.full_pass import PassEncoder
from xlsr_live.streaming.model.layers import XlsrLayers
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.model.readback import BEST, pack, unpack
from xlsr_live.streaming.model.runners import EagerRunner, Runner
from xlsr_live.streaming.model.step import StepEncoder
from xlsr_live.streaming.requests import CachedFeatures, CacheHandle

from tests.support.cached_reference import Utterance, difference
from tests.support.checkpoints import LETTERS, SMALL, SMALL_MMS, forward, publish
from tests.support.noise import noise

Float32 = np.ndarray
CPU = torch.device("cpu")
SETTING = (12, 12, 50)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available here")


class Model:
    """Steps and passes of one checkpoint over the same slots."""

    def __init__(self, encoder: XlsrEncoder, runner: Runner, best: int | None = None) -> None:
        self.network = XlsrLayers(encoder._model)
        self.caches = CacheManager(self.network.pool, most_bytes=1 << 28)
        self.steps = StepEncoder(self.network, self.caches, runner, best=best)
        self.wholes = PassEncoder(self.network, self.caches, runner, best=best)

    def encode(self, batch: list[Float32], recalls: list[CachedFeatures | None] | None = None) -> list[Float32]:
        return self.wholes.encode(batch, recalls or [None] * len(batch))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> XlsrEncoder:
    return load(ModelOptions(str(publish(tmp_path_factory.mktemp("m"), normalize=False)), device="cpu"))


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
    plain = [forward(encoder.info.name, samples) for samples in batch]
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
        assert np.abs(rows - forward(encoder.info.name, samples)).max() < 1e-4


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
def test_rows_that_are_not_finite_fail_their_utterance_and_no_other(best: int | None):
    rows = torch.randn(3, 3, 9).log_softmax(-1)
    rows[1, 2] = torch.nan
    rows[2, 0, 0] = torch.inf
    valid = torch.ones(3, 3, dtype=torch.bool)
    valid[1, 2] = False  # padding need not be finite
    words, finite = pack(rows, valid, best=best)
    assert finite.tolist() == [True, True, False]
    whole, padded, bad = unpack(words.numpy(), 3, [3, 2, 3], 9, best=best)
    assert bad is None
    for answer, row in ((whole, rows[0]), (padded, rows[1, :2])):
        assert answer is not None
        assert answer.shape == row.shape
        assert np.array_equal(answer.argmax(1), row.argmax(1))
    valid[1, 2] = True
    assert unpack(pack(rows, valid, best=best)[0].numpy(), 3, [3, 2, 3], 9, best=best)[1] is None


def test_a_row_with_one_certain_token_has_a_finite_rest():
    rows = torch.full((1, 1, 100), -1e4)
    rows[0, 0, 70] = 0
    packed = pack(rows, torch.ones(1, 1, dtype=torch.bool), best=BEST)[0].numpy()
    (answer,) = unpack(packed, 1, [1], 100, best=BEST)
    assert np.isfinite(answer).all()
    assert answer.argmax() == 70
