from __future__ import annotations

import pytest
from xlsr_live.server.refusals import CLOSE_CODES, HTTP_STATUSES
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.protocol.codes import Code, ProtocolError
from xlsr_live.streaming.protocol.messages import ClientMessage, End, Flush, Grammar, Hotwords, Start, parse, to_json


def test_start_without_fields_has_the_defaults():
    start = parse('{"type":"start"}')
    assert isinstance(start, Start)
    assert start.audio == AudioFormat()
    assert start.config == SessionConfig()


def test_start_carries_audio_format_and_settings():
    start = parse('{"type":"start","encoding":"mulaw","sample_rate":8000,"channels":2,"config":{"vad":"none"}}')
    assert isinstance(start, Start)
    assert start.audio == AudioFormat(encoding="mulaw", sample_rate=8_000, channels=2)
    assert start.config == SessionConfig(vad="none")


def test_flush_and_end():
    assert parse('{"type":"flush"}') == Flush()
    assert parse('{"type":"end"}') == End()


BUSY = {Code.OVERLOADED, Code.SERVER_FULL, Code.CLIENT_FULL}  # before the upgrade, and after


@pytest.mark.parametrize(
    ("text", "code", "names"),
    [
        ("hello", Code.NOT_JSON, "JSON"),
        ('{"type":"end"', Code.NOT_JSON, "JSON"),
        ("", Code.NOT_JSON, "JSON"),
        ("[1]", Code.BAD_MESSAGE, "object"),
        ("{}", Code.BAD_MESSAGE, "type"),
        ('{"type":7}', Code.BAD_MESSAGE, "type"),
        ('{"type":"stop"}', Code.UNKNOWN_TYPE, "'stop'"),
        ('{"type":"session_ended"}', Code.UNKNOWN_TYPE, "session_ended"),
        ('{"type":"end","now":true}', Code.BAD_MESSAGE, "now"),
        ('{"type":"start","rate":8000}', Code.BAD_MESSAGE, "rate"),
        ('{"type":"start","sample_rate":"8k"}', Code.BAD_MESSAGE, "sample_rate"),
        ('{"type":"start","encoding":"opus"}', Code.BAD_MESSAGE, "encoding"),
        ('{"type":"start","config":{"hop":320}}', Code.BAD_MESSAGE, "hop"),
        ('{"type":"start","config":{"vad":"best"}}', Code.BAD_MESSAGE, "config.vad"),
        ('{"type":"start","version":2,"novelty":1}', Code.BAD_VERSION, "2"),
    ],
)
def test_a_broken_message_is_named(text: str, code: Code, names: str):
    with pytest.raises(ProtocolError, match=names) as error:
        parse(text)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"type":"start","sample_rate":4000}', "sample_rate"),
        ('{"type":"start","channels":0}', "channels"),
        ('{"type":"start","config":{"hop_ms":333}}', "hop_ms"),
    ],
)
def test_a_setting_out_of_range_is_named(text: str, names: str):
    with pytest.raises(ConfigError, match=names) as error:
        parse(text)
    assert error.value.code == Code.BAD_CONFIG


@pytest.mark.parametrize(
    "message",
    [
        Start(),
        Start(encoding="mulaw", sample_rate=8_000, channels=2, config=SessionConfig(vad="none", hotwords=("AB:3",))),
        Start(share=True, resumable=False, resume="token", events=7),
        Flush(),
        Hotwords(("AB", "CD:2.5")),
        Grammar("play: play [music]"),
        End(),
    ],
)
def test_encoding_and_parsing_are_inverse(message: ClientMessage):
    assert parse(to_json(message)) == message


def test_only_settings_that_were_changed_are_sent():
    assert to_json(Start(sample_rate=8_000, config=SessionConfig(hop_ms=240))) == (
        '{"type":"start","version":1,"encoding":"pcm_s16le","sample_rate":8000,"channels":1,"config":{"hop_ms":240}}'
    )


def test_every_error_code_has_a_close_code():
    assert set(CLOSE_CODES) | set(HTTP_STATUSES) == set(Code)
    assert set(CLOSE_CODES) & set(HTTP_STATUSES) == {
        Code.SHUTTING_DOWN,
        Code.ENCODER_FAILED,
        Code.INTERNAL_ERROR,
        *BUSY,
    }
