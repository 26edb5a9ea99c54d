from __future__ import annotations

import json

import pytest
from xlsr_live.streaming.errors import EventError
from xlsr_live.streaming.protocol.events import (
    Error,
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
    Warning,
    Word,
    from_json,
    to_json,
)

WORD = Word("ÉTÉ", 0.5, 0.75, 0.9, False)
EVENTS: list[Event] = [
    SessionStarted(session="s", model="m", mode="window"),
    SpeechStarted(utterance=0, start=0.25),
    Partial(utterance=0, committed="A", volatile="ÉTÉ", words=(WORD,), audio_s=1.0, lag_ms=12.5),
    Final(utterance=0, text="A", words=(WORD,), start=0.25, end=1.5, confidence=0.5),
    SpeechEnded(utterance=0, end=1.5, reason="silence"),
    SessionEnded(audio_s=2.0, utterances=1),
    Warning(code="degraded", message="x"),
    Error(code="bad_audio", message='"quoted"\n'),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_its_json(event: Event):
    line = to_json(event)
    assert "\n" not in line
    assert from_json(line) == event
    assert from_json(line.encode()) == event


def test_the_json_equals_the_published_example():
    assert json.loads(to_json(EVENTS[2])) == {
        "type": "partial",
        "utterance": 0,
        "committed": "A",
        "volatile": "ÉTÉ",
        "words": [{"word": "ÉTÉ", "start": 0.5, "end": 0.75, "confidence": 0.9, "committed": False}],
        "audio_s": 1.0,
        "lag_ms": 12.5,
        "level": 0,
    }
    final = ["type", "utterance", "text", "words", "start", "end", "confidence", "lag_ms", "level"]
    assert list(json.loads(to_json(EVENTS[3]))) == final
    assert [json.loads(to_json(event))["type"] for event in EVENTS] == [
        "session_started",
        "speech_started",
        "partial",
        "final",
        "speech_ended",
        "session_ended",
        "warning",
        "error",
    ]


def test_fields_of_a_later_version_are_ignored_and_invalid_json_is_refused():
    assert from_json('{"type":"error","code":"a","message":"b","later":1}') == Error(code="a", message="b")
    for line in [
        "",
        "{}",
        '{"type":"nothing"}',
        '{"type":"error","code":"a"}',
        '{"type":"error","code":1,"message":""}',
    ]:
        with pytest.raises(EventError):
            from_json(line)


def test_events_cannot_be_changed():
    with pytest.raises(AttributeError):
        EVENTS[1].utterance = 5  # type: ignore[union-attr,misc]


def test_equality_of_events_ignores_lag_and_level():
    one = SpeechEnded(utterance=1, end=2.0, reason="silence", lag_ms=3.0, level=1)
    same = SpeechEnded(utterance=1, end=2.0, reason="silence", lag_ms=700.0, level=4)
    assert one == same
    assert not one != same  # noqa: SIM202  tests __eq__, not __ne__
    assert hash(one) == hash(same)
    assert one != SpeechEnded(utterance=2, end=2.0, reason="silence", lag_ms=3.0, level=1)
    assert Warning(code="a", message="b") != Error(code="a", message="b")
