"""OpenAI's Realtime protocol, by the official client in both of its forms."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from xlsr_live.server.dialects.deltas import Deltas
from xlsr_live.server.dialects.openai.shapes import turn_settings
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.spoken import Samples, as_file, at_rate, natively, pause, unharmed
from tests.support.wire import dial, packets

Message = dict[str, Any]
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"
COMMIT = '{"type":"input_audio_buffer.commit"}'
CLEAR = '{"type":"input_audio_buffer.clear"}'
MANUAL = '{"type":"session.update","session":{"type":"transcription","audio":{"input":{"turn_detection":null}}}}'
UTTERANCE = [
    "input_audio_buffer.speech_started",
    DELTA,
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    COMPLETED,
]


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(token="s3cret")) as server:
        yield server


@pytest.fixture
def two(brief: Callable[[str], Samples]) -> bytes:
    """Two utterances at 24 kHz."""
    return at_rate(np.concatenate([brief("george"), pause(1.5), brief("jackson"), pause(1.5)]), 24_000).tobytes()


@pytest.fixture
def one(brief: Callable[[str], Samples]) -> bytes:
    return at_rate(brief("george"), 24_000).tobytes()


def at_24k(server: RunningServer, data: bytes, **config: Any) -> list[Any]:
    return natively(server, data, json.dumps({"type": "start", "sample_rate": 24_000, "config": config}))


def append(data: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()})


def appended(data: bytes) -> list[str]:
    return [append(packet) for packet in packets(data, 48_000)]


async def talk(server: RunningServer, messages: list[str], until: Callable[[list[Message]], bool], **options: Any):
    url = f"ws://127.0.0.1:{server.port}/v1/realtime?intent=transcription"
    async with dial(url, **options) as websocket:
        for message in messages:
            await websocket.send(message)
        heard: list[Message] = []
        while not until(heard):
            heard.append(json.loads(await asyncio.wait_for(websocket.recv(), 60)))
        return heard


def said(server: RunningServer, messages: list[str], last: str, count: int = 1, **options: Any) -> list[Message]:
    """All that comes up to the `count`th message of type `last`."""
    heard = asyncio.run(
        talk(server, messages, lambda heard: [one["type"] for one in heard].count(last) == count, **options)
    )
    assert len({message["event_id"] for message in heard}) == len(heard)
    return heard


def kinds(heard: list[Message]) -> list[str]:
    """Types in their order, runs of deltas as one."""
    names = [message["type"] for message in heard]
    return [name for at, name in enumerate(names) if name != DELTA or names[at - 1] != DELTA]


def transcripts(heard: list[Message]) -> list[str]:
    return [message["transcript"] for message in heard if message["type"] == COMPLETED]


def test_the_official_client(guarded: RunningServer, server: RunningServer, two: bytes):
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    heard: list[Any] = []

    async def scene() -> None:
        client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{guarded.port}/v1", api_key="s3cret")
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            heard.append(await connection.recv())
            detection = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 600}
            await connection.session.update(
                session={
                    "type": "transcription",
                    "audio": {
                        "input": {
                            "format": {"type": "audio/pcm", "rate": 24_000},
                            "transcription": {"model": "whisper-1", "language": "en"},
                            "turn_detection": detection,
                        }
                    },
                    "include": ["item.input_audio_transcription.logprobs"],
                }
            )
            for packet in packets(two, 9_600):
                await connection.input_audio_buffer.append(audio=base64.b64encode(packet).decode())
            while [event.type for event in heard].count(COMPLETED) < 2:
                heard.append(await connection.recv())

    asyncio.run(scene())
    native = at_24k(server, two)
    plain = [event.to_dict() for event in heard]
    assert kinds(plain) == ["session.created", "session.updated", *UTTERANCE * 2]
    assert transcripts(plain) == [final.text for final in native]
    for completed, final in zip([event for event in heard if event.type == COMPLETED], native, strict=True):
        deltas = [event.delta for event in heard if event.type == DELTA and event.item_id == completed.item_id]
        assert "".join(deltas) == completed.transcript
        assert len(deltas) > 1
        assert "".join(each.token for each in completed.logprobs) == final.text
        sure = [math.exp(each.logprob) for each in completed.logprobs]
        assert sure == pytest.approx([word.confidence for word in final.words], abs=1e-4)
        assert completed.usage.type == "duration"
    started = [event.audio_start_ms for event in heard if event.type == UTTERANCE[0]]
    stopped = [event.audio_end_ms for event in heard if event.type == UTTERANCE[2]]
    assert started == [round(final.start * 1000) for final in native]
    assert stopped == [round(final.end * 1000) for final in native]
    first, second = [event for event in heard if event.type == "input_audio_buffer.committed"]
    assert (first.previous_item_id, second.previous_item_id) == (None, first.item_id)


def test_the_official_client_of_the_beta(server: RunningServer, one: bytes):
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    heard: list[Any] = []

    async def scene() -> None:
        place = f"127.0.0.1:{server.port}/v1"
        client = openai.AsyncOpenAI(base_url=f"http://{place}", websocket_base_url=f"ws://{place}", api_key="any")
        async with client.beta.realtime.connect(model="any") as connection:
            setup = {"input_audio_format": "pcm16", "input_audio_transcription": {"model": "whisper-1"}}
            await connection.transcription_session.update(session={**setup, "turn_detection": None})
            await connection.input_audio_buffer.append(audio=base64.b64encode(one).decode())
            await connection.input_audio_buffer.commit()
            while not heard or heard[-1]["type"] != COMPLETED:
                heard.append(json.loads(await connection.recv_bytes()))

    asyncio.run(scene())
    assert kinds(heard) == [
        "transcription_session.created",
        "transcription_session.updated",
        DELTA,
        "input_audio_buffer.committed",
        "conversation.item.created",
        COMPLETED,
    ]
    assert heard[0]["session"]["input_audio_format"] == "pcm16"
    assert heard[0]["session"]["turn_detection"]["type"] == "server_vad"
    assert heard[1]["session"]["turn_detection"] is None
    assert transcripts(heard) == [final.text for final in at_24k(server, one, vad="none")]


def test_manual_commits(server: RunningServer, one: bytes):
    heard = said(server, [MANUAL, *appended(one), COMMIT, *appended(one), COMMIT, COMMIT], "error")
    native = natively(
        server,
        one,
        '{"type":"start","sample_rate":24000,"config":{"vad":"none"}}',
    )
    assert transcripts(heard)[0] == native[0].text
    assert len(transcripts(heard)) == 2
    assert not [message for message in heard if "speech" in message["type"]]
    problem = heard[-1]["error"]
    assert (problem["code"], problem["type"]) == ("input_audio_buffer_commit_empty", "invalid_request_error")
    assert "0.00ms" in problem["message"]


def test_a_long_item_is_one_item(server: RunningServer, one: bytes):
    heard = said(server, [MANUAL, *appended(one * 8), COMMIT], COMPLETED)  # longer than an utterance may be
    assert kinds(heard)[2:] == [DELTA, "input_audio_buffer.committed", *UTTERANCE[-3:]]
    native = at_24k(server, one * 8, vad="none")
    assert len(native) > 1
    assert transcripts(heard) == [" ".join(final.text for final in native)]


def test_a_commit_may_come_before_the_pause(server: RunningServer, one: bytes):
    heard = said(server, [*appended(one), COMMIT, COMMIT], "error")
    assert kinds(heard) == ["session.created", *UTTERANCE, "error"]
    assert transcripts(heard) == [final.text for final in at_24k(server, one)]


def test_silence_and_nothing(server: RunningServer):
    heard = said(server, [COMMIT], "error")
    assert heard[-1]["error"]["code"] == "input_audio_buffer_commit_empty"
    heard = said(server, [append(bytes(96_000)), COMMIT], COMPLETED)
    assert kinds(heard) == ["session.created", *UTTERANCE[3:]]
    assert transcripts(heard) == [""]


def test_who_pushes_to_talk_may_say_nothing_for_long(recognizer: Recognizer):
    async def scene(server: RunningServer) -> str:
        async with dial(f"ws://127.0.0.1:{server.port}/v1/realtime") as websocket:
            await websocket.recv()
            await asyncio.sleep(3 * 0.2)
            await websocket.send(CLEAR)
            return json.loads(await websocket.recv())["type"]

    with running_server(recognizer, ServerSettings(idle_timeout_s=0.2)) as server:
        assert asyncio.run(scene(server)) == "input_audio_buffer.cleared"


def test_clear_forgets_what_was_not_committed(server: RunningServer, one: bytes):
    heard = said(server, [CLEAR, MANUAL, *appended(one), CLEAR, COMMIT, *appended(one), COMMIT], COMPLETED)
    assert [message["type"] for message in heard].count("input_audio_buffer.cleared") == 2
    assert [message["error"]["code"] for message in heard if message["type"] == "error"] == [
        "input_audio_buffer_commit_empty"
    ]
    assert transcripts(heard) == [final.text for final in at_24k(server, one, vad="none")]


def test_other_settings_in_mid_stream(server: RunningServer, brief: Callable[[str], Samples], one: bytes):
    phones = as_file(at_rate(brief("jackson"), 8_000), "RAW", 8_000, subtype="ULAW")
    form = {"format": {"type": "audio/pcmu"}, "turn_detection": {"type": "server_vad", "silence_duration_ms": 600}}
    update = json.dumps({"type": "session.update", "session": {"audio": {"input": form}}})
    heard = said(server, [*appended(one), update, append(phones), append(b"\xff" * 8_000)], COMPLETED, 2)
    (before,) = at_24k(server, one)
    (after,) = natively(server, phones, '{"type":"start","encoding":"mulaw","sample_rate":8000}')
    assert transcripts(heard) == [before.text, after.text]
    started = [message["audio_start_ms"] for message in heard if message["type"] == UTTERANCE[0]]
    assert started[1] == pytest.approx(1_000 * (len(one) / 48_000 + after.start), abs=60)
    (updated,) = [message["session"] for message in heard if message["type"] == "session.updated"]
    assert updated["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert updated["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 600,
    }


def test_keywords_are_listened_for(server: RunningServer, one: bytes):
    first, second = at_24k(server, one)[0].words[1:3]
    phrase = f"{first.word} {second.word}S"
    (boosted,) = at_24k(server, one, hotwords=[phrase])
    update = {"audio": {"input": {"transcription": {"model": "any", "keywords": [phrase, "1234"]}}}}
    message = json.dumps({"type": "session.update", "session": update})
    pieces = appended(one)
    assert transcripts(said(server, [message, *pieces, COMMIT], COMPLETED)) == [boosted.text]
    assert transcripts(said(server, [pieces[0], message, *pieces[1:], COMMIT], COMPLETED)) == [boosted.text]


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("hello", "invalid_json", None),
        ("[1]", "invalid_json", None),
        ('{"type":"response.create","event_id":"mine"}', "invalid_value", "type"),
        ('{"type":"input_audio_buffer.append","audio":"???"}', "invalid_value", "audio"),
        ('{"type":"input_audio_buffer.append","audio":7}', "invalid_value", "audio"),
        ('{"type":"input_audio_buffer.append"}', "invalid_value", "audio"),
        ('{"type":"session.update"}', "missing_required_parameter", "session"),
        ('{"type":"session.update","session":{"audio":7}}', "invalid_value", "session"),
        ('{"type":"session.update","session":{"include":7}}', "invalid_value", "session"),
        (
            '{"type":"session.update","session":{"audio":{"input":{"format":{"type":"mp3"}}}}}',
            "invalid_value",
            "session",
        ),
        ('{"type":"session.update","session":{"input_audio_format":"mp3"}}', "invalid_value", "session"),
        ('{"type":"session.update","session":{"turn_detection":{"type":"guess"}}}', "invalid_value", "session"),
        (
            '{"type":"session.update","session":{"turn_detection":{"type":"server_vad","threshold":"x"}}}',
            "invalid_value",
            "session",
        ),
    ],
)
def test_mistakes_are_told_and_the_session_goes_on(
    server: RunningServer, one: bytes, message: str, code: str, param: str | None
):
    heard = said(server, [message, MANUAL, append(one[:48_000]), COMMIT], COMPLETED)
    (problem,) = [each["error"] for each in heard if each["type"] == "error"]
    assert (problem["type"], problem["code"], problem["param"]) == ("invalid_request_error", code, param)
    assert problem["event_id"] == ("mine" if "mine" in message else None)
    assert transcripts(heard) == [final.text for final in at_24k(server, one[:48_000], vad="none")]


def test_an_item_on_which_the_model_fails(recognizer: Recognizer, one: bytes):
    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(recognizer.encoder, name)

        def encode(self, *batch: Any) -> Any:
            raise RuntimeError("no memory")

        encode_steps = encode

    other = Recognizer(Failing(), recognizer.assets)  # type: ignore[arg-type]
    try:
        with running_server(other) as server:
            heard = said(
                server, [*appended(one[:96_000]), COMMIT], "conversation.item.input_audio_transcription.failed"
            )
    finally:
        other.close()
    assert kinds(heard)[1:] == [*UTTERANCE[:1], *UTTERANCE[2:6], heard[-1]["type"]]
    assert heard[-1]["item_id"] == heard[1]["item_id"]
    assert (heard[-1]["error"]["type"], heard[-1]["error"]["code"]) == ("transcription_error", "audio_unintelligible")


def test_pages_show_their_key_in_a_subprotocol(guarded: RunningServer):
    key = "openai-insecure-api-key.s3cret"
    assert opened(guarded, "realtime", key) == ("realtime", "session.created")
    assert opened(guarded, "realtime", key, "openai-beta.realtime-v1")[1] == "transcription_session.created"
    with pytest.raises(InvalidStatus) as refusal:
        opened(guarded, "realtime", "openai-insecure-api-key.other")
    assert refusal.value.response.status_code == 401
    assert json.loads(refusal.value.response.body or b"")["error"]["code"] == "invalid_api_key"


def opened(server: RunningServer, *offered: str) -> tuple[str | None, str]:
    """What is agreed on, and the first message."""

    async def scene() -> tuple[str | None, str]:
        async with dial(f"ws://127.0.0.1:{server.port}/v1/realtime?model=any", subprotocols=offered) as websocket:
            return websocket.subprotocol, json.loads(await websocket.recv())["type"]

    return asyncio.run(scene())


def test_ephemeral_keys_by_the_official_client(guarded: RunningServer):
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    place = f"http://127.0.0.1:{guarded.port}/v1"
    owner = openai.OpenAI(base_url=place, api_key="s3cret", max_retries=0)
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
    with pytest.raises(InvalidStatus, match="401"):  # it was good for one session
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


def test_clients_that_leave_and_a_server_that_stops(recognizer: Recognizer, one: bytes):
    async def scene(server: RunningServer) -> list[Message]:
        websocket = await dial(f"ws://127.0.0.1:{server.port}/v1/realtime")
        await websocket.send(append(one))
        websocket.transport.abort()
        async with dial(f"ws://127.0.0.1:{server.port}/v1/realtime") as websocket:
            for message in appended(one):
                await websocket.send(message)
            heard: list[Message] = []
            while not heard or heard[-1]["type"] != DELTA:
                heard.append(json.loads(await websocket.recv()))
            draining = asyncio.run_coroutine_threadsafe(server.sessions.drain(20), server.loop)
            while heard[-1]["type"] != COMPLETED:
                heard.append(json.loads(await websocket.recv()))
            await asyncio.wrap_future(draining)
            return heard

    with running_server(recognizer) as server, unharmed(server):
        heard = asyncio.run(scene(server))
    assert kinds(heard) == ["session.created", *UTTERANCE]


def test_deltas_take_nothing_back():
    deltas = Deltas(lambda *texts: " ".join(text for text in texts if text))
    assert [deltas.partial(text) for text in ("", "A", "A B", "A B")] == ["", "A", " B", ""]
    assert deltas.final("A B C") == " C"
    assert deltas.partial("D") == " D"
    assert deltas.final("X") == ""  # instead of D
    assert deltas.partial("Y") == ""
    assert deltas.text == "A B C X"


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
