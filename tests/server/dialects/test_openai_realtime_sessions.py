"""OpenAI's Realtime protocol: settings of a session, and ephemeral keys."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from xlsr_live.server.dialects.openai.shapes import turn_settings
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, as_file, at_rate, native_finals
from tests.support.realtime_client import (
    COMMIT,
    COMPLETED,
    UTTERANCE,
    Message,
    answers,
    append,
    appended,
    at_24k,
    talk,
    transcripts,
)
from tests.support.wire import dial


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(token="s3cret")) as server:
        yield server


@pytest.fixture
def one(brief: Callable[[str], Samples]) -> bytes:
    return at_rate(brief("george"), 24_000).tobytes()


def test_other_settings_in_mid_stream(server: RunningServer, brief: Callable[[str], Samples], one: bytes):
    phones = as_file(at_rate(brief("jackson"), 8_000), "RAW", 8_000, subtype="ULAW")
    form = {"format": {"type": "audio/pcmu"}, "turn_detection": {"type": "server_vad", "silence_duration_ms": 600}}
    update = json.dumps({"type": "session.update", "session": {"audio": {"input": form}}})
    received = answers(server, [*appended(one), update, append(phones), append(b"\xff" * 8_000)], COMPLETED, 2)
    (before,) = at_24k(server, one)
    (after,) = native_finals(server, phones, '{"type":"start","encoding":"mulaw","sample_rate":8000}')
    assert transcripts(received) == [before.text, after.text]
    started = [message["audio_start_ms"] for message in received if message["type"] == UTTERANCE[0]]
    assert started[1] == pytest.approx(1_000 * (len(one) / 48_000 + after.start), abs=60)
    (updated,) = [message["session"] for message in received if message["type"] == "session.updated"]
    assert updated["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert updated["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 600,
    }


def test_keywords_become_hotwords(server: RunningServer, one: bytes):
    first, second = at_24k(server, one)[0].words[1:3]
    phrase = f"{first.word} {second.word}S"
    (boosted,) = at_24k(server, one, hotwords=[phrase])
    update = {"audio": {"input": {"transcription": {"model": "any", "keywords": [phrase, "1234"]}}}}
    message = json.dumps({"type": "session.update", "session": update})
    pieces = appended(one)
    assert transcripts(answers(server, [message, *pieces, COMMIT], COMPLETED)) == [boosted.text]
    assert transcripts(answers(server, [pieces[0], message, *pieces[1:], COMMIT], COMPLETED)) == [boosted.text]


def test_pages_show_their_key_in_a_subprotocol(guarded: RunningServer):
    key = "openai-insecure-api-key.s3cret"
    assert opened(guarded, "realtime", key) == ("realtime", "session.created")
    assert opened(guarded, "realtime", key, "openai-beta.realtime-v1")[1] == "session.created"
    with pytest.raises(InvalidStatus) as refusal:
        opened(guarded, "realtime", "openai-insecure-api-key.other")
    assert refusal.value.response.status_code == 401
    assert json.loads(refusal.value.response.body or b"")["error"]["code"] == "invalid_api_key"


def opened(server: RunningServer, *offered: str) -> tuple[str | None, str]:
    """The accepted subprotocol, and the type of the first message."""

    async def scene() -> tuple[str | None, str]:
        async with dial(f"ws://127.0.0.1:{server.port}/v1/realtime?model=any", subprotocols=offered) as websocket:
            return websocket.subprotocol, json.loads(await websocket.recv())["type"]

    return asyncio.run(scene())


def test_ephemeral_keys_by_the_official_client(guarded: RunningServer):
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    place = f"http://127.0.0.1:{guarded.port}/v1"
    with openai.OpenAI(base_url=place, api_key="s3cret", max_retries=0) as owner:
        wanted = {"format": {"type": "audio/pcmu"}, "turn_detection": None}
        secret = owner.realtime.client_secrets.create(session={"type": "transcription", "audio": {"input": wanted}})
        assert secret.value.startswith("ek_")
        assert 0 < secret.expires_at - time.time() <= 31
        assert secret.session.audio.input.turn_detection is None

        async def page(key: str) -> Any:
            client = openai.AsyncOpenAI(base_url=place, api_key=key)
            async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
                return (await connection.recv()).to_dict()["session"]["audio"]["input"]

        assert asyncio.run(page(secret.value)) == {**wanted, "transcription": None, "noise_reduction": None}
        with pytest.raises(InvalidStatus, match="401"):  # valid for one session
            asyncio.run(page(secret.value))
        of_beta = owner.beta.realtime.transcription_sessions.create(input_audio_format="g711_alaw")
        assert of_beta.input_audio_format == "g711_alaw"
        key = of_beta.client_secret.value
        with pytest.raises(InvalidStatus, match="400"):
            opened(guarded, "realtime", f"openai-insecure-api-key.{key}x")
        assert opened(guarded, "realtime", f"openai-insecure-api-key.{key}") == ("realtime", "session.created")
        for session in ({"audio": {"input": {"format": {"type": "mp3"}}}}, {"more": "x" * 5_000}):
            with pytest.raises(openai.BadRequestError):
                owner.realtime.client_secrets.create(session=session)
        with pytest.raises(openai.AuthenticationError):
            owner.with_options(api_key="wrong").realtime.client_secrets.create()


@pytest.mark.parametrize(
    ("wanted", "config"),
    [
        (None, SessionConfig(vad="none")),
        ("auto", SessionConfig()),
        ({"type": "server_vad"}, SessionConfig()),
        ({"type": "server_vad", "silence_duration_ms": 10}, SessionConfig(hangover_ms=300)),
        (
            {"type": "server_vad", "silence_duration_ms": 3_000, "threshold": 0.1, "prefix_padding_ms": 0},
            SessionConfig(hangover_ms=3_000, trailing_blank_ms=3_000, vad_threshold=0.2, pre_roll_ms=0),
        ),
        ({"type": "semantic_vad", "eagerness": "low"}, SessionConfig(hangover_ms=1_200)),
    ],
)
def test_turn_settings(wanted: Any, config: SessionConfig):
    assert turn_settings(wanted) == config


def test_turn_detection_of_the_beta_needs_no_type(server: RunningServer):
    def updated(session: dict[str, Any], **options: Any) -> Message:
        message = json.dumps({"type": "session.update", "session": session})
        return asyncio.run(talk(server, [message], lambda received: len(received) == 2, **options))[1]

    beta = {"additional_headers": {"OpenAI-Beta": "realtime=v1"}}
    session = updated({"turn_detection": {"silence_duration_ms": 700}}, **beta)["session"]
    assert (session["turn_detection"]["type"], session["turn_detection"]["silence_duration_ms"]) == ("server_vad", 700)
    problem = updated({"audio": {"input": {"turn_detection": {"silence_duration_ms": 700}}}})["error"]
    assert "server_vad" in problem["message"]


@pytest.mark.parametrize(
    ("query", "kind"), [("model=any", "session"), ("intent=transcription", "transcription_session")]
)
def test_sessions_of_the_beta(server: RunningServer, query: str, kind: str):
    beta = {"additional_headers": {"OpenAI-Beta": "realtime=v1"}}
    update = json.dumps({"type": f"{kind}.update", "session": {"input_audio_format": "g711_ulaw"}})
    received = asyncio.run(talk(server, [update], lambda received: len(received) == 2, query, **beta))
    assert [each["type"] for each in received] == [f"{kind}.created", f"{kind}.updated"]
    assert [each["session"]["object"] for each in received] == [f"realtime.{kind}"] * 2
    assert received[1]["session"]["input_audio_format"] == "g711_ulaw"
