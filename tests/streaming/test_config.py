from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vad", "sliero"),
        ("mode", "cachd"),
        ("finals", "none"),
        ("vad_threshold", 0.1),
        ("vad_threshold", 0.15),  # would never close
        ("vad_threshold", 1.0),
        ("vad_threshold", math.nan),
        ("pre_roll_ms", -1),
        ("pre_roll_ms", 2_001),
        ("post_roll_ms", 601),  # longer than the hangover
        ("min_speech_ms", -30),
        ("hangover_ms", 59),
        ("hangover_ms", "600"),
        ("hop_ms", 0),
        ("hop_ms", 30),  # not a multiple of a frame
        ("hop_ms", 5_020),
        ("lookahead_ms", 10),
        ("lookahead_ms", -20),
        ("left_context_ms", 30_020),
        ("left_context_ms", 4_001),
        ("max_utterance_ms", 1_999),
        ("max_utterance_ms", 60_001),
        ("trailing_blank_ms", 100),
        ("trailing_blank_ms", 230),  # shorter than the post-roll
        ("partials", "yes"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: Any):
    with pytest.raises(ConfigError, match=name):
        SessionConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoding", "mp3"),
        ("sample_rate", 7_999),
        ("sample_rate", 96_001),
        ("sample_rate", 44_100.5),
        ("channels", 0),
        ("channels", 33),
    ],
)
def test_a_wrong_audio_format_is_refused_by_name(name: str, value: Any):
    with pytest.raises(ConfigError, match=name):
        AudioFormat(**{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"trailing_blank_ms": 0},
        {"trailing_blank_ms": 240},
        {"post_roll_ms": 600},
        {"hop_ms": 20, "lookahead_ms": 0, "left_context_ms": 0},
        {"vad_threshold": 0.99},
        {"vad": "none", "mode": "offline", "finals": "append"},
        {"mode": "cached", "left_context_ms": 0},
    ],
)
def test_settings_at_their_limits_are_accepted(settings: dict[str, Any]):
    config = SessionConfig(**settings)
    assert msgspec.json.decode(msgspec.json.encode(config), type=SessionConfig) == config


def test_an_utterance_must_have_room_for_a_step():
    with pytest.raises(ConfigError, match="max_utterance_ms"):
        SessionConfig(max_utterance_ms=2_000, lookahead_ms=2_000)


def test_unknown_names_are_refused_and_nothing_can_be_changed():
    with pytest.raises(TypeError):
        SessionConfig(hop=480)  # type: ignore[call-arg]
    with pytest.raises(msgspec.ValidationError, match="hop_msec"):
        msgspec.convert({"hop_msec": 480}, SessionConfig)
    with pytest.raises(AttributeError):
        SessionConfig().hop_ms = 20  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "live"),
    [
        ({}, True),
        ({"partials": False}, False),
        ({"partials": False, "finals": "append"}, True),
        ({"mode": "offline"}, False),
        ({"mode": "offline", "finals": "append"}, False),
    ],
)
def test_which_settings_have_live_steps(settings: dict[str, Any], live: bool):
    assert SessionConfig(**settings).live is live
