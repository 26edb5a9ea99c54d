from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import OmniASRFeatureExtractor, Wav2Vec2FeatureExtractor
from xlsr_live.streaming.audio.normalize import EPSILON, OMNIASR_EPSILON, Moments, RunningNormalizer, normalize

EXTRACTOR = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)


def noise(seed: int, length: int, level: float = 0.1, offset: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(length) * level + offset).astype(np.float32)


@given(st.integers(0, 99), st.integers(1, 50_000), st.sampled_from([0.0, 1e-6, 0.01, 1.0]), st.sampled_from([0, 0.3]))
@settings(max_examples=50, deadline=None)
def test_normalize_equals_the_feature_extractor_bit_for_bit(seed: int, length: int, level: float, offset: float):
    samples = noise(seed, length, level, offset)
    expected = EXTRACTOR(samples, sampling_rate=16_000, return_tensors="np").input_values[0]
    ours = normalize(samples)
    assert ours.dtype == np.float32
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("level", [0.0, 1e-6, 0.001, 0.01, 1.0])
def test_omnilingual_extractors_are_followed_too(level: float):
    samples = noise(1, 20_000, level, 0.3)
    theirs = OmniASRFeatureExtractor()(samples, sampling_rate=16_000).input_values[0, 0].numpy()
    assert np.allclose(normalize(samples, OMNIASR_EPSILON), theirs, atol=1e-5)
    running = RunningNormalizer(epsilon=OMNIASR_EPSILON)
    running.extend(samples)
    assert np.allclose(running.read(0, len(samples)), theirs, atol=1e-4)


@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=10), st.booleans())
@settings(max_examples=50, deadline=None)
def test_samples_are_scaled_once_by_all_audio_up_to_their_step(steps: list[int], seeded: bool):
    samples = noise(1, sum(steps), offset=0.2)
    seed = Moments().plus(noise(2, 800, 0.5)) if seeded else None
    running = RunningNormalizer(seed)
    expected: list[np.ndarray] = []
    at = 0
    before = noise(2, 800, 0.5) if seeded else np.empty(0, np.float32)
    for step in steps:
        running.extend(samples[at : at + step])
        at += step
        past = np.concatenate((before, samples[:at])).astype(np.float64)
        expected.append((samples[at - step : at] - past.mean()) / np.sqrt(past.var() + 1e-7))
        assert running.length == at
        assert np.allclose(running.read(0, at), np.concatenate(expected), atol=1e-4)
    frozen = running.read(0, at)
    running.extend(noise(3, 5_000, 1.0))
    assert np.array_equal(running.read(0, at), frozen)


def test_earlier_utterances_count_for_at_most_a_second():
    long = Moments().plus(noise(1, 160_000, 1.0))
    running = RunningNormalizer(long)
    running.extend(noise(2, 16_000, 0.01))
    assert np.std(running.read(0, 16_000)) == pytest.approx(0.01 / np.sqrt(0.5), rel=0.02)


def test_scaling_down_keeps_mean_and_variance_and_never_scales_up():
    moments = Moments().plus(noise(1, 1_000, 0.2, 0.5))
    less, same = moments.scaled_to(10), moments.scaled_to(1e9)
    assert less.weight == pytest.approx(10)
    assert (less.mean, less.scale(EPSILON)) == pytest.approx((moments.mean, moments.scale(EPSILON)))
    assert same == moments
    assert Moments().scaled_to(5) == Moments()


def test_without_normalization_samples_pass_unchanged():
    samples = noise(1, 999)
    running = RunningNormalizer(enabled=False)
    running.extend(samples)
    assert np.array_equal(running.read(0, 999), samples)


def test_silence_stays_finite():
    running = RunningNormalizer()
    running.extend(np.zeros(1_000, np.float32))
    assert not running.read(0, 1_000).any()


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 11), (6, 5)])
def test_only_normalised_samples_can_be_read(start: int, end: int):
    running = RunningNormalizer()
    running.extend(np.zeros(10, np.float32))
    with pytest.raises(IndexError):
        running.read(start, end)


def test_reading_returns_a_copy():
    running = RunningNormalizer(enabled=False)
    running.extend(np.ones(10, np.float32))
    running.read(0, 10)[:] = 5
    assert running.read(0, 10).tolist() == [1.0] * 10
