"""The detectors on real speech, real noise and nothing; their own quality is measured elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from xlsr_live.streaming.audio import vad
from xlsr_live.streaming.audio.silero import CHUNK, Silero
from xlsr_live.streaming.audio.vad import FRAME, CascadeVad, EnergyVad, SileroVad, Vad, WebrtcVad, make_vad

DETECTORS = ["cascade", "webrtc", "silero", "energy"]


def probabilities(vad: Vad, samples: np.ndarray) -> list[float]:
    return vad(in_frames(samples))


def in_frames(samples: np.ndarray) -> np.ndarray:
    return samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)


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


def test_the_cascade_asks_silero_only_where_webrtc_fires_and_for_a_while_after(speech: np.ndarray):
    silence = np.zeros(32_000, np.float32)
    samples = np.concatenate((silence, speech, silence))
    sure = probabilities(CascadeVad(mode=1), samples)
    coarse = probabilities(WebrtcVad(mode=1), samples)
    recent = [any(coarse[max(0, at - vad._FOLLOW + 1) : at + 1]) for at in range(len(coarse))]
    assert all(fine == 0.0 for fine, fired in zip(sure, recent, strict=True) if not fired)
    assert recent.count(False) > 60
    assert max(sure) > 0.9


@pytest.mark.parametrize("level", [0, -12, -24])
def test_the_cascade_finds_soft_speech_like_silero_alone(level: int, speech: np.ndarray):
    soft = np.round(speech * 10 ** (level / 20) * 32_768).astype(np.float32) / 32_768
    alone, cascade = (np.array(probabilities(detector, soft)) >= 0.5 for detector in (SileroVad(), CascadeVad()))
    assert alone.sum() > 40
    assert (alone & ~cascade).sum() <= 0.02 * alone.sum()


def test_silero_hears_a_little_before_each_onset_and_nothing_twice(monkeypatch: pytest.MonkeyPatch):
    heard: list[list[int]] = []

    class Silero:
        def __call__(self, frames: np.ndarray) -> list[float]:
            heard[-1] += [int(frame[0]) for frame in frames]
            return [0.75] * len(frames)

        def reset(self) -> None:
            heard.append([])

    class Webrtc(Silero):
        def __call__(self, frames: np.ndarray) -> list[float]:
            return [float(frame[1]) for frame in frames]

    monkeypatch.setattr("xlsr_live.streaming.audio.vad.SileroVad", Silero)
    monkeypatch.setattr("xlsr_live.streaming.audio.vad.WebrtcVad", lambda mode: Webrtc())
    monkeypatch.setattr(vad, "_WARM_UP", 4)
    monkeypatch.setattr(vad, "_FOLLOW", 3)
    said = "------##--#------#"
    frames = np.zeros((len(said), FRAME), np.float32)
    frames[:, 0], frames[:, 1] = np.arange(len(said)), [char == "#" for char in said]
    for sizes in ([1] * 18, [18], [5, 2, 8, 3], [7, 1, 10]):
        heard.clear()
        cascade = CascadeVad()
        told = [p for block in np.split(frames, np.cumsum(sizes)[:-1]) for p in cascade(block)]
        assert told == [0.75 if char == "#" else 0.0 for char in "------#######----#"]
        assert heard == [[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15, 16, 17]]


@pytest.mark.parametrize("name", DETECTORS)
def test_frames_that_come_together_are_judged_as_if_they_came_alone(name, speech: np.ndarray):
    noise = 0.05 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    frames = in_frames(np.concatenate((speech, np.zeros(8_000, np.float32), noise, speech)))
    together = make_vad(name)(frames)
    cuts = np.cumsum(np.random.default_rng(1).integers(0, 6, 60))
    some = make_vad(name)
    assert [p for block in np.split(frames, cuts[cuts < len(frames)]) for p in some(block)] == together
    alone = make_vad(name)
    assert [p for frame in frames for p in alone(frame[None])] == together


def test_silero_hears_every_sample_once_in_its_own_chunks_of_which_a_frame_tells_the_last(speech: np.ndarray):
    vad, heard = SileroVad(), []

    class Listening:
        def __call__(self, chunks: np.ndarray) -> list[float]:
            heard.extend(chunks.copy())
            return [float(len(heard) - len(chunks) + index + 1) for index in range(len(chunks))]

    vad._silero = Listening()
    frames = in_frames(speech)
    told = [p for block in np.array_split(frames, 17) for p in vad(block)]
    assert told == [(index + 1) * FRAME // CHUNK for index in range(len(frames))]
    assert np.array_equal(np.concatenate(heard), speech[: len(heard) * CHUNK])
    assert len(frames) * FRAME - len(heard) * CHUNK < CHUNK


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
def test_silero_is_what_its_own_package_makes_of_the_same_samples(speech: np.ndarray):
    folder = Path(find_spec("silero_vad").origin).parent
    theirs = torch.jit.load(folder / "data" / "silero_vad.jit")
    chunks = speech[: len(speech) // CHUNK * CHUNK].reshape(-1, CHUNK)
    with torch.inference_mode():
        expected = [theirs(torch.from_numpy(chunk), 16_000).item() for chunk in chunks]
    assert Silero()(chunks) == pytest.approx(expected, abs=1e-4)


def level(decibels: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, FRAME)).astype(np.float32) * 10 ** (decibels / 20)


def test_the_energy_detector_hears_what_stands_out_of_the_noise_and_gets_used_to_it():
    vad = EnergyVad()
    assert vad(np.repeat(level(-70), 50, axis=0)) == [0.0] * 50
    assert vad(level(-40)) == [1.0]
    assert vad(level(-55)) == [0.0]  # below the least level
    vad.reset()
    hum = vad(np.repeat(level(-30), 1_000, axis=0))
    assert hum[0] == 1.0
    assert hum[-1] == 0.0
    assert vad(level(-10)) == [1.0]
    assert vad(np.zeros((1, FRAME), np.float32)) == [0.0]
    assert vad(level(-30)) == [1.0]  # the floor fell at once


def test_none_is_no_detector():
    assert make_vad("none") is None
