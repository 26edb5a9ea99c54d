"""Deepgram's live protocol, tested with the official client and, for the rest, a bare client."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.deepgram_client import CLOSE_STREAM, RAW, Message, address, answers, results, talk, transcripts
from tests.support.native_reference import Samples, leaves_nothing_behind, native_finals, pause, words
from tests.support.serving import recorded
from tests.support.wire import dial, packets


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(token="s3cret")) as server:
        yield server


@pytest.fixture(scope="module")
def open_server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture
def two(brief: Callable[[str], Samples]) -> Samples:
    return np.concatenate([brief("george"), pause(1.5), brief("jackson"), pause(1.5)])


def test_the_official_client(server: RunningServer, open_server: RunningServer, two: Samples):
    deepgram = pytest.importorskip("deepgram", reason="deepgram-sdk, the official client, is not installed")
    from deepgram.core.events import EventType

    place = f"127.0.0.1:{server.port}"
    environment = deepgram.DeepgramClientEnvironment(
        base=f"http://{place}", production=f"ws://{place}", agent=f"ws://{place}", agent_rest=f"http://{place}"
    )
    received: list[Any] = []
    trouble: list[Any] = []

    async def scene(key: str) -> None:
        client = deepgram.AsyncDeepgramClient(api_key=key, environment=environment)
        async with client.listen.v1.connect(
            model="nova-3",
            encoding="linear16",
            sample_rate=16_000,
            interim_results=True,
            vad_events=True,
            utterance_end_ms=1_000,
            smart_format=True,
            punctuate=True,
            keyterm=["nobody says this"],
        ) as connection:
            connection.on(EventType.MESSAGE, received.append)
            connection.on(EventType.ERROR, trouble.append)
            listening = asyncio.create_task(connection.start_listening())
            await connection.send_keep_alive()
            for packet in packets(two.tobytes(), 6_400):
                await connection.send_media(packet)
            await connection.send_close_stream()
            await listening

    asyncio.run(scene("s3cret"))
    native = native_finals(open_server, two.tobytes())
    assert not trouble
    assert [type(message).__name__ for message in received if "Results" not in type(message).__name__] == [
        *("ListenV1SpeechStarted", "ListenV1UtteranceEnd") * 2,
        "ListenV1Metadata",
    ]
    all_results = [message for message in received if message.type == "Results"]
    finals = [message for message in all_results if message.is_final]
    best = [message.channel.alternatives[0] for message in finals]
    assert [one.transcript for one in best] == [final.text for final in native]
    assert [one.confidence for one in best] == [final.confidence for final in native]
    assert words(native) == [
        (word.punctuated_word, word.start, word.end, word.confidence) for one in best for word in one.words
    ]
    assert all(message.speech_final for message in finals)
    assert all(message.metadata.request_id == received[-1].request_id for message in all_results)
    ends = [message.last_word_end for message in received if message.type == "UtteranceEnd"]
    assert ends == [final.words[-1].end for final in native]
    assert finals[0].start == 0  # finals tile the stream
    assert finals[1].start == pytest.approx(finals[0].start + finals[0].duration, abs=0.002)
    first = [
        message for message in all_results[: all_results.index(finals[0])] if message.channel.alternatives[0].transcript
    ]
    assert first
    assert {message.start for message in first} == {0}
    with pytest.raises(deepgram.core.api_error.ApiError) as refusal:
        asyncio.run(scene("wrong"))
    assert refusal.value.status_code == 401


def test_interim_results_only_on_request(open_server: RunningServer, two: Samples):
    received = answers(open_server, [*packets(two.tobytes()), CLOSE_STREAM], **RAW)
    assert {message["type"] for message in received} == {"Results", "Metadata"}
    assert not results(received, final=False)
    assert received[-1]["duration"] == pytest.approx(len(two) / 16_000, abs=0.001)
    assert received[-1]["channels"] == 1
    assert received[-1]["sha256"] == hashlib.sha256(two.tobytes()).hexdigest()


def test_nothing_silence_and_less_than_a_frame(open_server: RunningServer):
    (metadata,) = answers(open_server, [b"", CLOSE_STREAM], **RAW)
    assert (metadata["duration"], metadata["channels"]) == (0, 0)
    (metadata,) = answers(open_server, [bytes(96_000), CLOSE_STREAM], **RAW)
    assert metadata["duration"] == 3
    assert len(answers(open_server, [bytes(7), CLOSE_STREAM], **RAW)) == 1


def test_phrases_may_change(open_server: RunningServer, brief: Callable[[str], Samples]):
    data = brief("george").tobytes()
    first, second = native_finals(open_server, data)[0].words[1:3]
    phrase = f"{first.word} {second.word}S"
    (boosted,) = native_finals(open_server, data, json.dumps({"type": "start", "config": {"hotwords": [phrase]}}))
    keyterm = phrase.lower().replace(" ", "%20")
    assert transcripts(answers(open_server, [data, CLOSE_STREAM], **RAW, keyterm=keyterm)) == [boosted.text]
    assert transcripts(answers(open_server, [data, CLOSE_STREAM], **RAW, keywords=f"{keyterm}:2")) == [boosted.text]
    configure = json.dumps({"type": "Configure", "keyterms": [phrase, "1234"]})
    received = answers(
        open_server, [data[:16_000], configure, '{"type":"Configure"}', data[16_000:], CLOSE_STREAM], **RAW
    )
    assert [each for each in received if each["type"] == "ConfigureSuccess"] == [
        {"type": "ConfigureSuccess", "request_id": received[-1]["request_id"], "keyterms": [phrase, "1234"]},
        {"type": "ConfigureSuccess", "request_id": received[-1]["request_id"]},
    ]
    assert transcripts(received) == [boosted.text]


@pytest.mark.parametrize(
    "message", ["hello", "{}", '{"type":"Sing"}', '{"type":"Configure","keyterms":7}', "x" * 99_999]
)
def test_unknown_messages_are_errors_and_the_stream_continues(open_server: RunningServer, message: str):
    received = answers(open_server, [message, CLOSE_STREAM], **RAW)
    assert [(each["type"], each.get("variant"), each.get("message")) for each in received[:-1]] == [
        ("Error", "SchemaError", message[:1_000])
    ]


@pytest.mark.parametrize(
    "parameters",
    [
        {"encoding": "linear16"},
        {"encoding": "speex", "sample_rate": "16000"},
        {"encoding": "звук", "sample_rate": "16000"},
        {"encoding": "linear16", "sample_rate": "fast"},
        {"encoding": "linear16", "sample_rate": "200000"},
        {"interim_results": "perhaps"},
        {"endpointing": "-1"},
        {"utterance_end_ms": "1000"},
        {"utterance_end_ms": "10", "interim_results": "true"},
        {"multichannel": "true", "channels": "2"},
    ],
)
def test_bad_parameters_are_refused(open_server: RunningServer, parameters: dict[str, str]):
    with pytest.raises(InvalidStatus) as refusal:
        asyncio.run(talk(address(open_server, **parameters), []))
    response = refusal.value.response
    assert response.status_code == 400
    assert set(json.loads(response.body or b"")) == {"err_code", "err_msg", "request_id"}
    assert response.headers["dg-error"]


def test_tokens_of_pages_and_programs(server: RunningServer):
    url = address(server, **RAW, some_new_parameter="x")

    async def scene(**options: Any) -> str | None:
        async with dial(url, **options) as websocket:
            return websocket.subprotocol

    assert asyncio.run(scene(additional_headers={"Authorization": "Token s3cret"})) is None
    assert asyncio.run(scene(additional_headers={"Authorization": "Bearer s3cret"})) is None
    assert asyncio.run(scene(subprotocols=["token", "s3cret"])) == "token"
    assert asyncio.run(scene(subprotocols=["bearer", "s3cret", "x-deepgram-session-id", "1"])) == "bearer"
    for options in ({}, {"subprotocols": ["token", "wrong"]}, {"additional_headers": {"Authorization": "Token wrong"}}):
        with pytest.raises(InvalidStatus) as refusal:
            asyncio.run(scene(**options))
        assert refusal.value.response.status_code == 401
        assert json.loads(refusal.value.response.body or b"")["err_code"] == "INVALID_AUTH"
    with pytest.raises(InvalidStatus, match="403"):
        asyncio.run(
            scene(additional_headers={"Authorization": "Token s3cret", "Origin": "https://evil.example"}),
        )


def test_a_silent_client_is_closed(recognizer: Recognizer):
    async def alive(server: RunningServer) -> list[Message]:
        async with dial(address(server, **RAW)) as websocket:
            for _ in range(45):
                await websocket.send('{"type":"KeepAlive"}')
                await asyncio.sleep(0.1)
            await websocket.send(CLOSE_STREAM)
            return [json.loads(message) async for message in websocket]

    async def both(server: RunningServer) -> tuple[Any, list[Message]]:
        return await asyncio.gather(talk(address(server, **RAW), [bytes(3_200)]), alive(server))

    with running_server(recognizer, ServerSettings(idle_timeout_s=4)) as server:
        (received, code, reason), others = asyncio.run(both(server))
    assert (code, reason) == (1011, "NET-0001")
    assert [message["type"] for message in received] == [message["type"] for message in others] == ["Metadata"]


def test_a_client_that_leaves_without_closing(open_server: RunningServer, two: Samples):
    async def scene(data: bytes, **parameters: Any) -> None:
        websocket = await dial(address(open_server, **parameters))
        await websocket.send(data)
        websocket.transport.abort()

    with leaves_nothing_behind(open_server):
        asyncio.run(scene(two.tobytes()[:64_000], **RAW))
        asyncio.run(scene(recorded(two, "webm")[:5_000]))


def test_the_server_stops(recognizer: Recognizer, brief: Callable[[str], Samples]):
    async def scene(server: RunningServer) -> tuple[list[Message], int | None]:
        async with dial(address(server, **RAW, interim_results="true")) as websocket:
            await websocket.send(brief("george").tobytes())
            received = [json.loads(await websocket.recv())]
            asyncio.run_coroutine_threadsafe(server.sessions.drain(20), server.loop)
            try:
                async for message in websocket:
                    received.append(json.loads(message))
            except ConnectionClosed:
                pass
            return received, websocket.close_code

    with running_server(recognizer) as server:
        received, code = asyncio.run(scene(server))
    assert code == 1012
    assert transcripts(received)
    assert received[-1]["type"] == "Metadata"
