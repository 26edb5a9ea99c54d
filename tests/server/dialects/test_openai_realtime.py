"""OpenAI's Realtime protocol, by the official client in both of its forms."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, at_rate, leaves_nothing_behind, pause
from tests.support.realtime_client import (
    CLEAR,
    COMMIT,
    COMPLETED,
    DELTA,
    MANUAL,
    UTTERANCE,
    Message,
    answers,
    append,
    appended,
    at_24k,
    kinds,
    transcripts,
)
from tests.support.wire import dial, packets


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


def test_the_official_client(guarded: RunningServer, server: RunningServer, two: bytes):
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    received: list[Any] = []

    async def scene() -> None:
        client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{guarded.port}/v1", api_key="s3cret")
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            received.append(await connection.recv())
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
            while [event.type for event in received].count(COMPLETED) < 2:
                received.append(await connection.recv())

    asyncio.run(scene())
    native = at_24k(server, two)
    plain = [event.to_dict() for event in received]
    assert kinds(plain) == ["session.created", "session.updated", *UTTERANCE * 2]
    assert transcripts(plain) == [final.text for final in native]
    for completed, final in zip([event for event in received if event.type == COMPLETED], native, strict=True):
        deltas = [event.delta for event in received if event.type == DELTA and event.item_id == completed.item_id]
        assert "".join(deltas) == completed.transcript
        assert len(deltas) > 1
        assert "".join(each.token for each in completed.logprobs) == final.text
        sure = [math.exp(each.logprob) for each in completed.logprobs]
        assert sure == pytest.approx([word.confidence for word in final.words], abs=1e-4)
        assert completed.usage.type == "duration"
    started = [event.audio_start_ms for event in received if event.type == UTTERANCE[0]]
    stopped = [event.audio_end_ms for event in received if event.type == UTTERANCE[2]]
    assert started == [round(final.start * 1000) for final in native]
    assert stopped == [round(final.end * 1000) for final in native]
    first, second = [event for event in received if event.type == "input_audio_buffer.committed"]
    assert (first.previous_item_id, second.previous_item_id) == (None, first.item_id)


def test_the_official_client_of_the_beta(server: RunningServer, one: bytes):
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    received: list[Any] = []

    async def scene() -> None:
        place = f"127.0.0.1:{server.port}/v1"
        client = openai.AsyncOpenAI(base_url=f"http://{place}", websocket_base_url=f"ws://{place}", api_key="any")
        async with client.beta.realtime.connect(model="any") as connection:
            setup = {"input_audio_format": "pcm16", "input_audio_transcription": {"model": "whisper-1"}}
            await connection.transcription_session.update(session={**setup, "turn_detection": None})
            await connection.input_audio_buffer.append(audio=base64.b64encode(one).decode())
            await connection.input_audio_buffer.commit()
            while not received or received[-1]["type"] != COMPLETED:
                received.append(json.loads(await connection.recv_bytes()))

    asyncio.run(scene())
    assert kinds(received) == [
        "session.created",  # without intent=transcription
        "transcription_session.updated",
        DELTA,
        "input_audio_buffer.committed",
        "conversation.item.created",
        COMPLETED,
    ]
    assert received[0]["session"]["input_audio_format"] == "pcm16"
    assert received[0]["session"]["turn_detection"]["type"] == "server_vad"
    assert received[1]["session"]["turn_detection"] is None
    assert transcripts(received) == [final.text for final in at_24k(server, one, vad="none")]


def test_a_push_to_talk_client_may_be_silent(recognizer: Recognizer):
    async def scene(server: RunningServer) -> str:
        async with dial(f"ws://127.0.0.1:{server.port}/v1/realtime") as websocket:
            await websocket.recv()
            await asyncio.sleep(3 * 0.2)
            await websocket.send(CLEAR)
            return json.loads(await websocket.recv())["type"]

    with running_server(recognizer, ServerSettings(idle_timeout_s=0.2)) as server:
        assert asyncio.run(scene(server)) == "input_audio_buffer.cleared"


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
def test_mistakes_are_errors_and_the_session_continues(
    server: RunningServer, one: bytes, message: str, code: str, param: str | None
):
    received = answers(server, [message, MANUAL, append(one[:48_000]), COMMIT], COMPLETED)
    (problem,) = [each["error"] for each in received if each["type"] == "error"]
    assert (problem["type"], problem["code"], problem["param"]) == ("invalid_request_error", code, param)
    assert problem["event_id"] == ("mine" if "mine" in message else None)
    assert transcripts(received) == [final.text for final in at_24k(server, one[:48_000], vad="none")]


def test_an_item_on_which_the_model_fails(recognizer: Recognizer, one: bytes):
    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(recognizer.encoder, name)

        def encode(self, *batch: Any, **options: Any) -> Any:
            raise RuntimeError("no memory")

        encode_steps = encode

    other = Recognizer(Failing(), recognizer.assets)  # type: ignore[arg-type]
    try:
        with running_server(other) as server:
            received = answers(
                server, [*appended(one[:96_000]), COMMIT], "conversation.item.input_audio_transcription.failed"
            )
    finally:
        other.close()
    assert kinds(received)[1:] == [*UTTERANCE[:1], *UTTERANCE[2:6], received[-1]["type"]]
    assert received[-1]["item_id"] == received[1]["item_id"]
    assert (received[-1]["error"]["type"], received[-1]["error"]["code"]) == (
        "transcription_error",
        "audio_unintelligible",
    )


def test_clients_that_leave_and_a_server_that_stops(recognizer: Recognizer, one: bytes):
    async def scene(server: RunningServer) -> list[Message]:
        websocket = await dial(f"ws://127.0.0.1:{server.port}/v1/realtime")
        await websocket.send(append(one))
        websocket.transport.abort()
        async with dial(f"ws://127.0.0.1:{server.port}/v1/realtime") as websocket:
            for message in appended(one):
                await websocket.send(message)
            received: list[Message] = []
            while not received or received[-1]["type"] != DELTA:
                received.append(json.loads(await websocket.recv()))
            draining = asyncio.run_coroutine_threadsafe(server.sessions.drain(20), server.loop)
            while received[-1]["type"] != COMPLETED:
                received.append(json.loads(await websocket.recv()))
            await asyncio.wrap_future(draining)
            return received

    with running_server(recognizer) as server, leaves_nothing_behind(server):
        received = asyncio.run(scene(server))
    assert kinds(received) == ["session.created", *UTTERANCE]
