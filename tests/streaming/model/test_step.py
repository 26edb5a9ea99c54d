"""Cached steps equal the model run by one stream that keeps all its keys and values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from xlsr_live.streaming.audio.normalize import normalize
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.frames import STRIDE, frames
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.requests import CachedStep, CacheHandle, Window

from tests.support.cached_reference import Float32, Utterance, difference, fresh, windows
from tests.support.checkpoints import SMALL, SMALL_GROUP_NORM, SMALL_MMS, XLSR_300M, publish
from tests.support.noise import noise
from tests.support.paths import DIGITS

SIZES: dict[str, dict[str, Any]] = {
    "random": SMALL,
    "odd kernel": SMALL | {"num_conv_pos_embeddings": 15},
    "adapters": SMALL_MMS,
}
SETTINGS = [(10, 0, 20), (5, 30, 7), (40, 10, 0), (30, 30, 12), (1, 3, 4), (16, 25, 50), (300, 5, 50)]  # of steps


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory, packaged: Recognizer) -> dict[str, XlsrEncoder]:
    made = {name: publish(tmp_path_factory.mktemp("m"), size) for name, size in SIZES.items()}
    return {name: load(ModelOptions(str(path), device="cpu")) for name, path in made.items()} | {
        "packaged": packaged.encoder
    }


@pytest.fixture(scope="module")
def speech(clip: Callable[[str], np.ndarray]) -> Float32:
    return normalize(clip("george").astype(np.float32))


@torch.inference_mode()
def features(encoder: XlsrEncoder, samples: Float32) -> torch.Tensor:
    """Projected features of all frames in one pass, (1, frames, hidden)."""
    base = encoder._model.wav2vec2
    return base.feature_projection(base.feature_extractor(torch.from_numpy(samples)[None]).transpose(1, 2))[0]


@torch.inference_mode()
def reference(encoder: XlsrEncoder, samples: Float32, steps: list[Window], reach: int = 64) -> list[Float32]:
    """Rows of every step of one stream, with whole-utterance features and growing keys and values."""
    model = encoder._model
    base, heads = model.wav2vec2.encoder, model.config.num_attention_heads
    everything = features(encoder, samples)
    width = model.config.hidden_size // heads
    past = [torch.zeros(2, heads, 0, width) for _ in base.layers]  # keys and values of all committed frames
    rows: list[Float32] = []
    for w in steps:
        block = everything[:, max(0, w.committed - reach) : w.newest]
        x = (block + base.pos_conv_embed(block))[0, -(w.newest - w.committed) :]
        for index, layer in enumerate(base.layers):
            y = layer.layer_norm(x)
            q, k, v = (
                projection(y).view(len(y), heads, width).transpose(0, 1)
                for projection in (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj)
            )
            own = torch.stack((k, v))
            keys, values = torch.cat((past[index][:, :, w.first : w.committed], own), 2)
            past[index] = torch.cat((past[index], own[:, :, : w.commit - w.committed]), 2)
            attended = scaled_dot_product_attention(q[None], keys[None], values[None])[0]
            x = x + layer.attention.out_proj(attended.transpose(0, 1).flatten(1))
            x = x + layer.feed_forward(layer.final_layer_norm(x))
            x = x if layer.adapter_layer is None else x + layer.adapter_layer(x)
        rows.append(model.lm_head(base.layer_norm(x)).log_softmax(-1).numpy())
    return rows


# ── equal rows ──


@pytest.mark.parametrize("name", [*SIZES, "packaged"])
def test_one_step_over_a_whole_utterance_is_the_models_forward(
    encoders: dict[str, XlsrEncoder], speech: Float32, name: str
):
    (window,) = windows(len(speech), frames(len(speech)), 0, 0)
    utterance = Utterance(speech, window.newest, 0, 0).run(fresh(encoders[name]))
    assert difference(utterance.rows, encoders[name].encode([speech])) < 1e-4


@pytest.mark.parametrize(
    ("name", "hop", "lookahead", "left"),
    [
        *(("random", *setting) for setting in SETTINGS),
        *((name, 24, 24, 50) for name in SIZES),
        ("packaged", 24, 24, 200),
        ("packaged", 16, 25, 50),
        ("packaged", 40, 10, 0),
    ],
)
def test_steps_equal_those_of_a_stream_with_all_keys_and_values(
    encoders: dict[str, XlsrEncoder], speech: Float32, name: str, hop: int, lookahead: int, left: int
):
    samples = speech[:100_000] if left == 200 else speech[:40_000]
    utterance = Utterance(samples, hop, lookahead, left)
    planned = list(utterance.left)
    want = reference(encoders[name], samples, planned)
    assert difference(utterance.run(fresh(encoders[name])).rows, want) < 1e-4


@pytest.mark.parametrize("length", [400, 7_760, 8_079, 15_440, 15_441, 16_000])
def test_utterances_of_any_length_have_a_row_for_every_frame(
    encoders: dict[str, XlsrEncoder], speech: Float32, length: int
):
    """The last step has many frames, few, or only those of the lookahead."""
    utterance = Utterance(speech[:length], 24, 12, 50)
    planned = list(utterance.left)
    rows = utterance.run(fresh(encoders["packaged"])).rows
    assert sum(w.commit - w.committed for w in planned) == frames(length)
    assert difference(rows, reference(encoders["packaged"], speech[:length], planned)) < 1e-4


def test_features_of_new_samples_equal_those_of_the_whole_utterance(encoders: dict[str, XlsrEncoder], speech: Float32):
    steps = fresh(encoders["packaged"])
    with torch.inference_mode():
        parts = [
            steps._network.features(torch.from_numpy(speech[None, slice(*w.new_samples)]))
            for w in windows(len(speech), 17, 30, 200)
            if w.newest > w.encoded
        ]
    whole = features(encoders["packaged"], speech)
    assert sum(part.shape[1] for part in parts) == whole.shape[1] == frames(len(speech))
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-5 * whole.abs().max()


def test_a_ring_larger_than_the_left_context_changes_nothing(encoders: dict[str, XlsrEncoder], speech: Float32):
    """30 and 50 frames share a pool; the ring has room for 50."""
    samples = speech[:50_000]
    utterance = Utterance(samples, 20, 10, 30)
    want = reference(encoders["random"], samples, list(utterance.left))
    assert difference(utterance.run(fresh(encoders["random"])).rows, want) < 1e-4


# ── company ──


@pytest.mark.parametrize(("name", "seed"), [("random", 0), ("random", 1), ("random", 2), ("packaged", 3)])
def test_the_rows_of_an_utterance_do_not_depend_on_concurrent_utterances(
    encoders: dict[str, XlsrEncoder], name: str, seed: int
):
    random = Random(seed)
    settings = [(12, 12, 50), (12, 12, 43), (10, 9, 50), (6, 0, 20)]

    def utterance(index: int) -> Utterance:
        return Utterance(noise(random.randrange(400, 30_000), 100 * seed + index), *random.choice(settings))

    utterances = [utterance(index) for index in range(14)]
    alone = [Utterance(u.samples, u.left[0].newest, 0, 0) for u in utterances]
    for own, whole in zip(utterances, alone, strict=True):
        whole.memory, whole.left = CacheHandle(own.memory.left_context, own.memory.lookahead), list(own.left)
        whole.run(fresh(encoders[name]))
    steps, waiting, speaking, sizes = fresh(encoders[name]), list(utterances), [], set()
    while waiting or speaking:
        if waiting and (not speaking or random.random() < 0.4):
            speaking.append(waiting.pop())
        random.shuffle(speaking)
        batch: list[Utterance] = []
        for each in speaking:
            if not batch or steps.fits(each.next[1], [other.next[1] for other in batch]):
                batch.append(each)
        sizes.add(len(batch))
        for each, rows in zip(batch, steps.encode_steps([each.next for each in batch]), strict=True):
            each.take(rows)
        for each in [each for each in speaking if not each.left]:
            speaking.remove(each)
            steps.release(each.memory.number)
    assert len(sizes) > 2
    assert len(steps.caches) == 0
    for own, whole in zip(utterances, alone, strict=True):
        assert difference(own.rows, whole.rows) < 1e-4


def test_a_reused_slot_leaks_nothing(encoders: dict[str, XlsrEncoder], speech: Float32):
    """Bit-exact on a CPU, whatever the slot held before."""
    encoder = encoders["packaged"]
    want = Utterance(speech, 20, 25, 50).run(fresh(encoder)).rows
    steps = fresh(encoder)
    for seed in range(10):  # more than the initial slots
        Utterance(100 * noise(30_000, seed), 20, 25, 50).run(steps)
    held = Utterance(100 * noise(30_000), 20, 25, 50)
    held.take(steps.encode_steps([held.next])[0])
    assert len(steps.caches) == 1
    again = Utterance(speech, 20, 25, 50).run(steps).rows
    assert all(np.array_equal(a, b) for a, b in zip(again, want, strict=True))


def test_pools_grow_during_utterances(encoders: dict[str, XlsrEncoder]):
    steps = fresh(encoders["random"])
    utterances = [Utterance(noise(9_000, seed), 6, 5, 50) for seed in range(20)]
    planned = [list(utterance.left) for utterance in utterances]
    for _ in planned[0]:
        for utterance in utterances:
            utterance.take(steps.encode_steps([utterance.next])[0])
    for utterance, own in zip(utterances, planned, strict=True):
        assert difference(utterance.rows, reference(encoders["random"], utterance.samples, own)) < 1e-4


def test_steps_of_different_geometry_or_much_padding_share_no_batch(encoders: dict[str, XlsrEncoder]):
    steps = fresh(encoders["random"])

    def fits(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
        a, b = (Utterance(noise(60_000), *setting) for setting in (one, other))
        return steps.fits(a.next[1], [b.next[1]])

    assert fits((24, 24, 200), (24, 24, 200))
    assert fits((24, 24, 200), (20, 24, 190))
    assert not fits((24, 24, 200), (24, 24, 100))
    assert fits((24, 24, 200), (24, 74, 200))  # the first steps commit nothing
    assert not fits((24, 24, 200), (6, 24, 200))


# ── failures ──


def test_a_step_that_is_not_the_next_one_is_refused(encoders: dict[str, XlsrEncoder], speech: Float32):
    steps = fresh(encoders["random"])
    utterance = Utterance(speech, 24, 24, 50)
    first = utterance.next
    utterance.take(steps.encode_steps([first])[0])
    with pytest.raises(EngineError, match="order"):
        steps.encode_steps([first])
    second = utterance.next
    utterance.left.pop(0)
    with pytest.raises(EngineError, match="order"):
        steps.encode_steps([utterance.next])
    steps.encode_steps([second])
    steps.release(utterance.memory.number)
    steps.release(utterance.memory.number)
    with pytest.raises(EngineError, match="gone"):
        steps.encode_steps([utterance.next])
    with pytest.raises(ValueError, match="samples for"):
        steps.encode_steps([(speech[:400], CachedStep(CacheHandle(50, 24), first[1].window))])


def test_a_step_that_fails_in_a_batch_fails_alone(encoders: dict[str, XlsrEncoder], speech: Float32):
    encoder = encoders["packaged"]
    good = Utterance(speech[:50_000], 24, 24, 50)
    want = reference(encoder, good.samples, list(good.left))
    silent = Utterance(noise(50_000), 24, 24, 50)  # not finite from some sample on
    silent.samples[30_000:] = np.nan
    late, gone, homeless = (Utterance(noise(50_000, seed), 24, 24, 50) for seed in range(3))
    steps = fresh(encoder)
    steps.caches._most_bytes = steps.utterance_bytes(good.memory) * 4 + 1  # one of the four is the padding slot
    while silent.left[0].newest < frames(30_000):
        for utterance, rows in zip((good, silent), steps.encode_steps([good.next, silent.next]), strict=True):
            utterance.take(rows)
    late.take(steps.encode_steps([late.next])[0])
    late.left.pop(0)
    gone.left.pop(0)
    assert len(good.left) > 2
    while good.left:
        batch = [late.next, good.next, silent.next, homeless.next, gone.next]
        order, rows, *failed = steps.encode_steps(batch)
        good.take(rows)
        reasons = [str(error) for error in (order, *failed) if isinstance(error, EngineError)]
        assert [reason.split()[-1] for reason in reasons] == ["order", "finite", "utterance", "gone"]
        late.left, silent.left, homeless.left, gone.left = (
            late.left[:1],
            silent.left[:1],
            homeless.left[:1],
            gone.left[:1],
        )
    assert difference(good.rows, want) < 1e-4
    assert len(steps.caches) == 3
    with pytest.raises(EngineError, match="order"):  # the first error, if all fail
        steps.encode_steps([late.next, silent.next])


def test_slots_are_limited_and_reusable(encoders: dict[str, XlsrEncoder]):
    encoder = encoders["random"]
    steps = fresh(encoder)
    Utterance(noise(8_000), 24, 24, 50).run(steps)
    slot = steps.caches.bytes // 8
    steps = fresh(encoder, 4 * slot + 1)  # one of the four is the padding slot
    utterances = [Utterance(noise(20_000, seed), 24, 24, 50) for seed in range(4)]
    for utterance in utterances[:3]:
        utterance.take(steps.encode_steps([utterance.next])[0])
    with pytest.raises(EngineError, match="no room"):
        steps.encode_steps([utterances[3].next])
    assert len(steps.caches) == 3
    assert steps.caches.bytes <= 4 * slot + 1
    steps.release(utterances[0].memory.number)
    utterances[3].run(steps)
    for utterance in utterances[1:3]:
        utterance.run(steps)
    Utterance(noise(20_000), 24, 24, 20).run(steps)  # the same pool
    Utterance(noise(20_000), 24, 24, 90).run(steps)  # another: the empty pool makes room
    assert len(steps.caches) == 0
    assert steps.caches.bytes <= 4 * slot + 1


def test_only_checkpoints_with_layer_norm_are_cached(tmp_path: Path, encoders: dict[str, XlsrEncoder]):
    assert encoders["random"].info.modes == ("cached", "window", "offline")
    group = load(ModelOptions(str(publish(tmp_path, SMALL_GROUP_NORM)), device="cpu"))
    assert group.info.modes == ("window", "offline")
    with pytest.raises(EngineError, match="does not allow"):
        group.encode_steps([])


def test_half_precision_keeps_its_state_in_half_precision(speech: Float32):
    half = load(ModelOptions(str(DIGITS), device="cpu", dtype="bfloat16"))
    utterance = Utterance(speech, 24, 24, 200)
    want = reference(load(ModelOptions(str(DIGITS), device="cpu")), speech, list(utterance.left))
    rows = utterance.run(fresh(half)).rows
    same = [a.argmax(1) == b.argmax(1) for a, b in zip(rows, want, strict=True)]
    assert np.concatenate(same).mean() > 0.97


@pytest.mark.slow
def test_steps_are_exact_at_the_full_size_of_xlsr_300m(tmp_path: Path):
    encoder = load(ModelOptions(str(publish(tmp_path, XLSR_300M)), device="cpu"))
    (tmp_path / "model.safetensors").unlink()
    samples = noise(28_000)
    utterance = Utterance(samples, 24, 24, 30)
    want = reference(encoder, samples, list(utterance.left))
    steps = fresh(encoder)
    assert difference(utterance.run(steps).rows, want) < 1e-3
    whole = Utterance(samples, frames(len(samples)), 0, 0).run(steps)
    assert difference(whole.rows, encoder.encode([samples])) < 1e-3
    assert difference(in_steps(encoder, 4), in_steps(encoder, 1)) < 1e-5


def in_steps(encoder: XlsrEncoder, size: int) -> list[np.ndarray]:
    """The rows of four utterances in batches of `size` steps: two each, the second with cached frames."""
    audio = [noise(48 * STRIDE + 80, seed) for seed in range(4)]
    caches = [CacheHandle(200, 24) for _ in audio]
    rows: list[np.ndarray] = []
    for at in (0, 24):
        window = Window(step=at // 24, first=0, committed=0, commit=at, newest=at + 24, encoded=at)
        new = slice(at * STRIDE, (at + 24) * STRIDE + 80)
        steps = [(each[new], CachedStep(cache, window)) for each, cache in zip(audio, caches, strict=True)]
        for first in range(0, 4, size):
            rows += encoder.encode_steps(steps[first : first + size])
    for cache in caches:
        encoder.release(cache.number)
    return rows
