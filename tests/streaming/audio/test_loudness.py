"""The level of speech, and the hint that it is too soft."""

from __future__ import annotations

import numpy as np
import pytest
from xlsr_live.streaming.audio.loudness import QuietCheck, speech_level
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.protocol.events import Final, Warning
from xlsr_live.streaming.recognizer import Recognizer


def tone(level: float, seconds: float = 1.0) -> np.ndarray:
    """A sine with this root mean square in dBFS."""
    wave = np.sin(2 * np.pi * 440 * np.arange(round(16_000 * seconds)) / 16_000)
    return (np.sqrt(2) * 10 ** (level / 20) * wave).astype(np.float32)


@pytest.mark.parametrize("level", [-60.0, -45.0, -20.0])
def test_a_pause_does_not_lower_the_level_of_speech(level: float):
    assert speech_level(tone(level)) == pytest.approx(level, abs=0.1)
    assert speech_level(np.concatenate((tone(level), 0 * tone(level)))) == pytest.approx(level, abs=0.1)


def test_the_level_of_nothing_is_very_low():
    assert speech_level(np.zeros(0, np.float32)) == speech_level(np.zeros(16_000, np.float32)) == -120


def test_the_hint_appears_once_after_three_seconds_of_quiet_speech():
    check = QuietCheck()
    hints = [check.receive(tone(-50)) for _ in range(6)]
    assert [hint is not None for hint in hints] == [False, False, True, False, False, False]
    assert "-50 dBFS" in hints[2]


@pytest.mark.parametrize("loud_at", [0, 1, 2])
def test_one_loud_utterance_suppresses_the_hint(loud_at: int):
    check = QuietCheck()
    assert not any(check.receive(tone(-30 if at == loud_at else -50)) for at in range(6))


@pytest.mark.parametrize(("gain", "warned"), [(1.0, 0), (0.04, 1)])
def test_a_session_warns_once(recognizer: Recognizer, clip, gain: float, warned: int):
    samples = (gain * clip("george").astype(np.float32) / 32_768).astype(np.float32)
    audio = np.tile(np.concatenate((samples, np.zeros(16_000, np.float32))), 4)
    events = list(recognizer.stream(audio, SessionConfig(vad="silero")))
    assert sum(isinstance(event, Final) for event in events) >= 3
    warnings = [event for event in events if isinstance(event, Warning)]
    assert [warning.code for warning in warnings] == ["very_quiet"] * warned
