"""The detectors on real speech, real noise and nothing; their own quality is measured elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from xlsr_live.streaming.vad import FRAME, CascadeVad, EnergyVad, SileroVad, Vad, WebrtcVad, make_vad

DETECTORS = ["cascade", "webrtc", "silero", "energy"]


def probabilities(vad: Vad, samples: np.ndarray) -> list[float]:
    return [vad(frame) for frame in samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)]


@pytest.fixture(scope="module")
def speech(clip: Callable[[str], np.ndarray]) -> np.ndarray:
    return clip("george")[: 16_000 * 3].astype(np.float32) / 32_768


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_hears_speech_and_no_digital_silence(name, speech: np.ndarray):
    heard = probabilities(make_vad(name), speech)
    assert all(0 <= probability <= 1 for probability in heard)
    assert sum(probability >= 0.5 for probability in heard) > len(heard) / 3
    assert max(probabilities(make_vad(name), np.zeros(32_000, np.float32))) < 0.5


@pytest.mark.parametrize("name", DETECTORS)
def test_every_stream_has_a_state_of_its_own_and_a_reset_forgets_it(name, speech: np.ndarray):
    fresh = probabilities(make_vad(name), speech)
    used, other = make_vad(name), make_vad(name)
    probabilities(used, np.clip(speech[::-1] * 3, -1, 1))
    assert probabilities(other, speech) == fresh
    used.reset()
    assert probabilities(used, speech) == fresh


def test_the_cascade_asks_silero_only_where_webrtc_fires(speech: np.ndarray):
    samples = np.concatenate((np.zeros(16_000, np.float32), speech))
    cascade = CascadeVad(mode=1)
    assert max(probabilities(cascade, samples[:16_000])) == 0.0
    assert cascade._silero is None  # not even loaded
    sure = probabilities(CascadeVad(mode=1), samples)
    coarse = probabilities(WebrtcVad(mode=1), samples)
    assert all(fine == 0.0 for fine, loud in zip(sure, coarse, strict=True) if not loud)
    assert max(sure) > 0.9


def test_silero_hears_a_little_before_each_onset_and_nothing_twice(monkeypatch: pytest.MonkeyPatch):
    heard: list[list[int]] = []

    class Silero:
        def __call__(self, frame: np.ndarray) -> float:
            heard[-1].append(int(frame[0]))
            return 0.75

        def reset(self) -> None:
            heard.append([])

    class Webrtc(Silero):
        def __call__(self, frame: np.ndarray) -> float:
            return float(frame[1])

    monkeypatch.setattr("xlsr_live.streaming.vad.SileroVad", Silero)
    monkeypatch.setattr("xlsr_live.streaming.vad.WebrtcVad", lambda mode: Webrtc())
    cascade = CascadeVad()
    said = "------##--#------#"
    told = [cascade(np.float32([index, char == "#"])) for index, char in enumerate(said)]
    assert told == [0.75 if char == "#" else 0.0 for char in said]
    assert heard == [[2, 3, 4, 5, 6, 7], [8, 9, 10], [13, 14, 15, 16, 17]]


def test_silero_hears_every_sample_once_in_its_own_chunks(speech: np.ndarray):
    vad, heard = SileroVad(), []
    process = vad._vad.process_samples

    class Listening:
        def process_samples(self, samples):
            heard.extend(samples)
            return process(samples)

    vad._vad = Listening()
    probabilities(vad, speech)
    assert len(heard) % 512 == 0
    assert 0 <= len(speech) - len(heard) < 512 + FRAME
    assert np.array_equal(np.float32(heard), speech[: len(heard)])


def level(decibels: float) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(FRAME).astype(np.float32) * 10 ** (decibels / 20)


def test_the_energy_detector_hears_what_stands_out_of_the_noise_and_gets_used_to_it():
    vad = EnergyVad()
    assert [vad(level(-70)) for _ in range(50)] == [0.0] * 50
    assert vad(level(-40)) == 1.0
    assert vad(level(-55)) == 0.0  # below the least level
    vad.reset()
    hum = [vad(level(-30)) for _ in range(1_000)]
    assert hum[0] == 1.0
    assert hum[-1] == 0.0
    assert vad(level(-10)) == 1.0
    assert vad(np.zeros(FRAME, np.float32)) == 0.0
    assert vad(level(-30)) == 1.0  # the floor fell at once


def test_none_is_no_detector():
    assert make_vad("none") is None
