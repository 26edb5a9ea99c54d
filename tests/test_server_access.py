from typing import Any

import pytest
from starlette.datastructures import Headers
from xlsr_live.server.access import authorized, origin_allowed
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.errors import ConfigError


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("Bearer s3cret", True),
        ("bearer s3cret", True),
        ("Bearer s3cre", False),
        ("Bearer s3crets", False),
        ("Bearer", False),
        ("Basic s3cret", False),
        ("s3cret", False),
        ("Bearer \xfc", False),
        (None, False),
    ],
)
def test_bearer_token(header: str | None, allowed: bool):
    headers = Headers({} if header is None else {"authorization": header})
    assert authorized(headers, ServerSettings(token="s3cret")) is allowed
    assert authorized(headers, ServerSettings())


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"authorization": "Token s3cret"}, True),
        ({"authorization": "Token other"}, False),
        ({"sec-websocket-protocol": "token, s3cret"}, True),
        ({"sec-websocket-protocol": "bearer,s3cret,x-deepgram-session-id,1"}, True),
        ({"sec-websocket-protocol": "s3cret, token"}, False),
        ({"sec-websocket-protocol": "realtime, openai-insecure-api-key.s3cret, openai-beta.realtime-v1"}, True),
        ({"sec-websocket-protocol": "realtime, openai-insecure-api-key.other"}, False),
        ({"sec-websocket-protocol": "s3cret"}, False),
        ({"authorization": "Token other", "sec-websocket-protocol": "token, s3cret"}, True),
    ],
)
def test_the_tokens_of_other_services(headers: dict[str, str], allowed: bool):
    assert authorized(Headers(headers), ServerSettings(token="s3cret")) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://captions.example", True),
        ("https://speech.example:8765", True),
        ("http://localhost:3000", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:8080", True),
        ("https://evil.example", False),
        ("https://captions.example.evil", False),
        ("https://speech.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_origin(origin: str | None, allowed: bool):
    headers = Headers({"host": "speech.example:8765"} | ({} if origin is None else {"origin": origin}))
    assert origin_allowed(headers, ServerSettings(origins=("https://captions.example",))) is allowed


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"port": 70_000}, "port"),
        ({"vosk_port": -1}, "vosk_port"),
        ({"vosk_rate": 4_000}, "vosk_rate"),
        ({"wyoming_port": 70_000}, "wyoming_port"),
        ({"max_upload_bytes": 0}, "max_upload_bytes"),
        ({"max_sessions": 0}, "max_sessions"),
        ({"max_message_bytes": 10}, "max_message_bytes"),
        ({"idle_timeout_s": 0}, "idle_timeout_s"),
        ({"max_session_s": float("nan")}, "max_session_s"),
        ({"grace_s": -1}, "grace_s"),
        ({"token": ""}, "token"),
        ({"token": "tökén"}, "token"),
        ({"origins": ("captions.example",)}, "origin"),
        ({"origins": ("https://captions.example/page",)}, "origin"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], names: str):
    with pytest.raises(ConfigError, match=names):
        ServerSettings(**settings)


def test_the_token_is_not_shown():
    assert "s3cret" not in repr(ServerSettings(token="s3cret"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback(host: str, loopback: bool):
    assert ServerSettings(host=host).loopback is loopback
