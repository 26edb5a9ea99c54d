"""Channels to one: the mean, unless it cancels."""

from __future__ import annotations

import numpy as np
import pytest
from xlsr_live.streaming.audio.decoder import AudioDecoder
from xlsr_live.streaming.config import AudioFormat

RATE = 16_000


def noise(seed: int, seconds: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(RATE * seconds)).astype(np.float32)


def decoded(*channels: np.ndarray, size: int = 100_000) -> np.ndarray:
    audio = np.stack(channels, axis=1)
    decoder = AudioDecoder(AudioFormat(channels=len(channels), encoding="pcm_f32le"))
    return np.concatenate([decoder.receive(audio[at : at + size]) for at in range(0, len(audio), size)])


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_channels_of_opposite_sign_become_the_louder_one(share: float):
    sound = noise(0)
    assert np.array_equal(decoded(sound, -share * sound)[1_600:], sound[1_600:])
    mixed = decoded(-share * sound, sound)[1_600:]
    assert np.array_equal(mixed, (sound if share < 0.9 else -sound)[1_600:])


def test_converter_noise_does_not_hide_opposite_channels():
    sound = noise(0)
    mixed = decoded(sound + noise(1) / 300, noise(2) / 300 - sound)[1_600:]
    assert abs(np.corrcoef(mixed, sound[1_600:])[0, 1]) > 0.99


@pytest.mark.parametrize(
    "channels",
    [
        (noise(0), noise(0)),
        (noise(0), 0.3 * noise(0)),
        (noise(0), 0 * noise(0)),
        (noise(0), noise(1)),
        (0 * noise(0), 0 * noise(0)),
        tuple(noise(seed) for seed in range(8)),
        (noise(0), *(0 * noise(0) for _ in range(7))),
        (noise(0), -0.4 * noise(0)),
    ],
    ids=["same", "softer", "one silent", "independent", "silence", "eight", "one of eight", "partly inverted"],
)
def test_other_channels_are_averaged(channels: tuple[np.ndarray, ...]):
    mean = np.stack(channels, axis=1).mean(axis=1, dtype=np.float32)
    assert np.array_equal(decoded(*channels), mean)


def test_it_returns_to_the_mean_when_the_channels_agree_again():
    sound = noise(0, 10)
    second = np.concatenate((-sound[: 5 * RATE], sound[5 * RATE :]))
    assert np.array_equal(decoded(sound, second)[-RATE:], sound[-RATE:])


@pytest.mark.parametrize("size", [1, 7, 160, 1_600, 1_601])
def test_packets_of_any_size_give_the_same(size: int):
    sound = noise(0, 0.5)
    second = np.concatenate((-sound[:4_000], sound[4_000:]))
    assert np.array_equal(decoded(sound, second, size=size), decoded(sound, second))
