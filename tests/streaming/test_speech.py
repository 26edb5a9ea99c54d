"""Real recordings through the whole live path. Tests are skipped without the large sets beside the project."""

from __future__ import annotations

from collections.abc import Callable

import jiwer
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from xlsr_live.streaming import Final, Recognizer, SessionConfig, SpeechStarted

from tests.support.speech import listed, needs_speech


@needs_speech
def test_finals_of_every_digits_recording_are_the_offline_text_of_their_spans(recognizer: Recognizer):
    said: list[str] = []
    streamed: list[str] = []
    offline: list[str] = []
    for path, text in listed("digits"):
        samples, _ = soundfile.read(path, dtype="float32")
        finals = recognizer.transcribe(path)
        spans = [recognizer.offline(samples[round(f.start * 16_000) : round(f.end * 16_000)]) for f in finals]
        whole = recognizer.offline(path)
        said.append(text)
        streamed.append(" ".join(final.text for final in finals))
        offline.append(" ".join(span.text for span in spans if span))
        # A word at either end of the recording that one full pass hears is within what the gate lets through.
        assert whole is not None
        assert finals[0].start <= whole.words[0].start, path.name
        assert finals[-1].end >= whole.words[-1].end, path.name
    assert len(said) == 60
    assert streamed == offline
    assert jiwer.wer(said, streamed) - jiwer.wer(said, offline) == 0.0
    assert jiwer.wer(said, streamed) < 0.10  # the model's own, see docs/measurements.md


@needs_speech
def test_noise_yields_words_in_one_clip_of_sixty_at_most(recognizer: Recognizer):
    clips = listed("noise")
    assert len(clips) == 60
    assert sum(bool(recognizer.transcribe(path, SessionConfig(partials=False))) for path, _ in clips) <= 1


def ten_minutes_of(noise: Callable[[int], NDArray[np.float32]]) -> NDArray[np.float32]:
    return noise(10 * 60 * 16_000)


def white_noise(count: int) -> NDArray[np.float32]:
    """White noise at -40 dBFS (root mean square)."""
    return (10 ** (-40 / 20) * np.random.default_rng(7).standard_normal(count)).astype(np.float32)


def digital_silence(count: int) -> NDArray[np.float32]:
    return np.zeros(count, np.float32)


@pytest.mark.parametrize("noise", [digital_silence, white_noise])
def test_ten_minutes_without_speech_yield_no_words(recognizer: Recognizer, noise: Callable[[int], NDArray[np.float32]]):
    events = list(recognizer.stream(ten_minutes_of(noise), SessionConfig(partials=False)))
    assert not [event for event in events if isinstance(event, Final | SpeechStarted)]
