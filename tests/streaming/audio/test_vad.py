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
from xlsr_live.streaming.frames import ms
from xlsr_live.streaming.recognizer import Recognizer

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


def test_the_cascade_asks_silero_only_for_a_while_after_a_sign(speech: np.ndarray):
    silence = np.zeros(32_000, np.float32)
    samples = np.concatenate((silence, speech, silence))
    sure = probabilities(CascadeVad(mode=1), samples)
    coarse = probabilities(WebrtcVad(mode=1), samples)
    signs = [fired or fine >= vad._SIGN for fired, fine in zip(coarse, sure, strict=True)]
    recent = [any(signs[max(0, at - vad._FOLLOW + 1) : at + 1]) for at in range(len(signs))]
    assert all(fine == 0.0 for fine, sign in zip(sure, recent, strict=True) if not sign)
    assert recent.count(False) > 60
    assert max(sure) > 0.9


@pytest.mark.parametrize("level", [0, -12, -24])
def test_the_cascade_finds_soft_speech_like_silero_alone(level: int, speech: np.ndarray):
    soft = np.round(speech * 10 ** (level / 20) * 32_768).astype(np.float32) / 32_768
    silero = SileroVad()
    silero.begin_after_silence()  # as the cascade does here: the recording begins with a pause
    alone, cascade = (np.array(probabilities(detector, soft)) >= 0.5 for detector in (silero, CascadeVad()))
    assert alone.sum() > 40
    assert (alone & ~cascade).sum() <= 0.02 * alone.sum()


def test_silero_follows_signs_of_both_detectors_and_takes_no_frame_twice(monkeypatch: pytest.MonkeyPatch):
    taken: list[int] = []
    skipped: list[int] = []
    begun: list[int] = []

    class Silero:
        def __call__(self, frames: np.ndarray) -> list[float]:
            taken.extend(int(frame[0]) for frame in frames)
            return [float(frame[2]) for frame in frames]

        def skip(self, frames: int) -> None:
            skipped.append(frames)

        def begin_after_silence(self) -> None:
            begun.append(len(taken))

    class Webrtc:
        def __call__(self, frames: np.ndarray) -> list[float]:
            return [float(frame[1]) for frame in frames]

    monkeypatch.setattr("xlsr_live.streaming.audio.vad.SileroVad", Silero)
    monkeypatch.setattr("xlsr_live.streaming.audio.vad.WebrtcVad", lambda mode: Webrtc())
    monkeypatch.setattr(vad, "_WARM_UP", 4)
    monkeypatch.setattr(vad, "_FOLLOW_WEBRTC", 2)
    monkeypatch.setattr(vad, "_FOLLOW", 5)
    # Webrtc fires at `#` and `s`. Silero finds speech at `s` and `o`, a sign of it at `?`.
    signs = "------##--#---------s-?-----o----"
    frames = np.zeros((len(signs), FRAME), np.float32)
    frames[:, 0], frames[:, 1] = np.arange(len(signs)), [char in "#s" for char in signs]
    frames[:, 2] = [{"s": 0.75, "o": 0.75, "?": 0.2}.get(char, 0.05) for char in signs]
    followed = [*range(6, 13), *range(20, 28)]  # not 28: the last sign was six frames before
    for sizes in ([1] * len(signs), [len(signs)], [5, 2, 8, 3, 4, 9], [7, 1, 10, 5, 1, 1]):
        taken.clear()
        skipped.clear()
        begun.clear()
        cascade = CascadeVad()
        found = [p for block in np.split(frames, np.cumsum(sizes)[:-1]) for p in cascade(block)]
        assert found == [float(frames[at, 2]) if at in followed else 0.0 for at in range(len(signs))]
        assert taken == [*range(2, 13), *range(16, 28)]
        assert skipped == [2, 3]
        assert begun == [0]


def test_after_skipped_frames_silero_has_its_chunks_where_it_would_without(speech: np.ndarray):
    frames, taken = in_frames(speech), []

    class Listening:
        def __call__(self, chunks: np.ndarray) -> list[float]:
            taken.extend(chunks.copy())
            return [0.0] * len(chunks)

        def skip(self) -> None:
            taken.clear()

    for first, resumed in [(1, 2), (7, 20), (16, 17), (5, 69)]:
        detector = SileroVad()
        detector._silero = Listening()
        detector(frames[:first])
        detector.skip(resumed - first)
        detector(frames[resumed:])
        after = np.concatenate(taken)
        begun = resumed * FRAME // CHUNK * CHUNK
        missed = resumed * FRAME - begun
        assert not after[:missed].any()
        assert np.array_equal(after[missed:], speech[resumed * FRAME : begun + len(after)])


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
    assert Silero(quiet=0.0)(chunks) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["george", "jackson", "nicolas"])
def test_speech_at_the_first_sample_is_found(name: str, clip: Callable[[str], np.ndarray], recognizer: Recognizer):
    spoken = clip(name).astype(np.float32) / 32_768
    onset = int(np.argmax(np.abs(spoken) > 0.01))
    (final,) = recognizer.transcribe(spoken[onset:])
    assert final.text == recognizer.transcribe(spoken)[0].text


@pytest.mark.parametrize("lead", [60, 130])
def test_speech_after_a_short_silence_at_the_start_is_found(lead: int, clip: Callable[[str], np.ndarray]):
    """Silero took such speech for noise, for seconds, while it had not seen the silence itself."""
    loud = np.concatenate((np.zeros(ms(lead), np.float32), clip("jackson").astype(np.float32) / 16_384))
    spoken = loud[: len(loud) // FRAME * FRAME].reshape(-1, FRAME)
    heard, all_heard = (np.array(make_vad(name)(spoken)) >= 0.35 for name in ("cascade", "silero"))
    assert (heard & all_heard).sum() > 0.95 * all_heard.sum()


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
