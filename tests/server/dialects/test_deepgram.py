"""Deepgram's live protocol, by the official client, and by a bare one where that cannot say what must be tried."""

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

from tests.support.serving import recorded
from tests.support.spoken import Samples, as_file, at_rate, natively, pause, unharmed, words
from tests.support.wire import dial, packets

Message = dict[str, Any]
RAW = {"encoding": "linear16", "sample_rate": "16000"}
CLOSE = '{"type":"CloseStream"}'


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


def address(server: RunningServer, **parameters: Any) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/listen?" + "&".join(
        f"{name}={value}" for name, value in parameters.items()
    )


async def talk(url: str, messages: list[str | bytes], **options: Any) -> tuple[list[Message], int | None, str | None]:
    async with dial(url, **options) as websocket:
        for message in messages:
            await websocket.send(message)
        heard: list[Message] = []
        try:
            async for message in websocket:
                heard.append(json.loads(message))
        except ConnectionClosed:
            pass
        return heard, websocket.close_code, websocket.close_reason


def said(server: RunningServer, messages: list[str | bytes], **parameters: Any) -> list[Message]:
    heard, code, _ = asyncio.run(talk(address(server, **parameters), messages))
    assert code == 1000
    assert heard[-1]["type"] == "Metadata"
    assert {message["request_id"] for message in heard if "request_id" in message} == {heard[-1]["request_id"]}
    return heard


def results(heard: list[Message], *, final: bool = True) -> list[Message]:
    return [each for each in heard if each["type"] == "Results" and each["is_final"] is final]


def transcripts(heard: list[Message]) -> list[str]:
    return [text for each in results(heard) if (text := each["channel"]["alternatives"][0]["transcript"])]


def test_the_official_client(server: RunningServer, open_server: RunningServer, two: Samples):
    deepgram = pytest.importorskip("deepgram", reason="deepgram-sdk, the official client, is not installed")
    from deepgram.core.events import EventType

    place = f"127.0.0.1:{server.port}"
    environment = deepgram.DeepgramClientEnvironment(
        base=f"http://{place}", production=f"ws://{place}", agent=f"ws://{place}", agent_rest=f"http://{place}"
    )
    heard: list[Any] = []
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
            connection.on(EventType.MESSAGE, heard.append)
            connection.on(EventType.ERROR, trouble.append)
            listening = asyncio.create_task(connection.start_listening())
            await connection.send_keep_alive()
            for packet in packets(two.tobytes(), 6_400):
                await connection.send_media(packet)
            await connection.send_close_stream()
            await listening

    asyncio.run(scene("s3cret"))
    native = natively(open_server, two.tobytes())
    assert not trouble
    assert [type(message).__name__ for message in heard if "Results" not in type(message).__name__] == [
        *("ListenV1SpeechStarted", "ListenV1UtteranceEnd") * 2,
        "ListenV1Metadata",
    ]
    told = [message for message in heard if message.type == "Results"]
    finals = [message for message in told if message.is_final]
    best = [message.channel.alternatives[0] for message in finals]
    assert [one.transcript for one in best] == [final.text for final in native]
    assert [one.confidence for one in best] == [final.confidence for final in native]
    assert words(native) == [
        (word.punctuated_word, word.start, word.end, word.confidence) for one in best for word in one.words
    ]
    assert all(message.speech_final for message in finals)
    assert all(message.metadata.request_id == heard[-1].request_id for message in told)
    ends = [message.last_word_end for message in heard if message.type == "UtteranceEnd"]
    assert ends == [final.words[-1].end for final in native]
    assert finals[0].start == 0  # finals tile the stream
    assert finals[1].start == pytest.approx(finals[0].start + finals[0].duration, abs=0.002)
    first = [message for message in told[: told.index(finals[0])] if message.channel.alternatives[0].transcript]
    assert first
    assert {message.start for message in first} == {0}
    with pytest.raises(deepgram.core.api_error.ApiError) as refusal:
        asyncio.run(scene("wrong"))
    assert refusal.value.status_code == 401


def test_only_finals_unless_more_is_asked_for(open_server: RunningServer, two: Samples):
    heard = said(open_server, [*packets(two.tobytes()), CLOSE], **RAW)
    assert {message["type"] for message in heard} == {"Results", "Metadata"}
    assert not results(heard, final=False)
    assert heard[-1]["duration"] == pytest.approx(len(two) / 16_000, abs=0.001)
    assert heard[-1]["channels"] == 1
    assert heard[-1]["sha256"] == hashlib.sha256(two.tobytes()).hexdigest()


def test_endpointing_is_the_silence_that_ends_an_utterance(open_server: RunningServer, brief: Callable[[str], Samples]):
    samples = np.concatenate([brief("george"), pause(1.2), brief("jackson")])
    heard = said(open_server, [samples.tobytes(), CLOSE], **RAW, endpointing=4_000)
    assert len(results(heard)) == 1
    heard = said(open_server, [samples.tobytes(), CLOSE], **RAW, endpointing="false")
    assert [each["speech_final"] for each in results(heard)] == [False, True]


def test_finalize_is_answered_even_if_nothing_is_open(open_server: RunningServer, brief: Callable[[str], Samples]):
    data, finalize = brief("george").tobytes(), '{"type":"Finalize","channel":0}'
    heard = said(open_server, [finalize, data, finalize, finalize, data, CLOSE], **RAW)
    (native,) = natively(open_server, data)
    assert [each["from_finalize"] for each in results(heard)] == [True, True, True, False]
    texts = [each["channel"]["alternatives"][0]["transcript"] for each in results(heard)]
    assert texts[:3] == ["", native.text, ""]
    assert texts[3]


def test_nothing_silence_and_less_than_a_frame(open_server: RunningServer):
    (metadata,) = said(open_server, [b"", CLOSE], **RAW)
    assert (metadata["duration"], metadata["channels"]) == (0, 0)
    (metadata,) = said(open_server, [bytes(96_000), CLOSE], **RAW)
    assert metadata["duration"] == 3
    assert len(said(open_server, [bytes(7), CLOSE], **RAW)) == 1


def test_phrases_may_change(open_server: RunningServer, brief: Callable[[str], Samples]):
    data = brief("george").tobytes()
    first, second = natively(open_server, data)[0].words[1:3]
    phrase = f"{first.word} {second.word}S"
    (boosted,) = natively(open_server, data, json.dumps({"type": "start", "config": {"hotwords": [phrase]}}))
    asked = phrase.lower().replace(" ", "%20")
    assert transcripts(said(open_server, [data, CLOSE], **RAW, keyterm=asked)) == [boosted.text]
    assert transcripts(said(open_server, [data, CLOSE], **RAW, keywords=f"{asked}:2")) == [boosted.text]
    configure = json.dumps({"type": "Configure", "keyterms": [phrase, "1234"]})
    heard = said(open_server, [data[:16_000], configure, '{"type":"Configure"}', data[16_000:], CLOSE], **RAW)
    assert [each for each in heard if each["type"] == "ConfigureSuccess"] == [
        {"type": "ConfigureSuccess", "request_id": heard[-1]["request_id"], "keyterms": [phrase, "1234"]},
        {"type": "ConfigureSuccess", "request_id": heard[-1]["request_id"]},
    ]
    assert transcripts(heard) == [boosted.text]


@pytest.mark.parametrize(
    "message", ["hello", "{}", '{"type":"Sing"}', '{"type":"Configure","keyterms":7}', "x" * 99_999]
)
def test_what_is_not_understood_is_said_and_the_stream_goes_on(open_server: RunningServer, message: str):
    heard = said(open_server, [message, CLOSE], **RAW)
    assert [(each["type"], each.get("variant"), each.get("message")) for each in heard[:-1]] == [
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


def test_a_file_by_the_official_client(server: RunningServer, open_server: RunningServer, two: Samples):
    deepgram = pytest.importorskip("deepgram", reason="deepgram-sdk, the official client, is not installed")
    place = f"http://127.0.0.1:{server.port}"
    environment = deepgram.DeepgramClientEnvironment(base=place, production=place, agent=place, agent_rest=place)
    media = deepgram.DeepgramClient(api_key="s3cret", environment=environment).listen.v1.media
    file = as_file(two, "FLAC")
    answer = media.transcribe_file(request=file, model="nova-3", utterances=True, smart_format=True)
    native = natively(open_server, two.tobytes())
    (channel,) = answer.results.channels
    (best,) = channel.alternatives
    assert best.transcript == " ".join(final.text for final in native)
    told = [(word.punctuated_word, word.start, word.end, word.confidence) for word in best.words]
    assert told == words(native)
    assert [(one.transcript, one.start, one.end, one.confidence) for one in answer.results.utterances] == [
        (final.text, final.start, final.end, final.confidence) for final in native
    ]
    assert answer.metadata.duration == pytest.approx(len(two) / 16_000, abs=0.001)
    assert answer.metadata.sha256 == hashlib.sha256(file).hexdigest()
    assert (answer.metadata.channels, len(answer.metadata.models)) == (1, 1)
    silence = media.transcribe_file(request=as_file(pause(1)))
    assert (silence.results.channels[0].alternatives[0].transcript, silence.results.utterances) == ("", None)
    with pytest.raises(deepgram.BadRequestError) as refusal:
        media.transcribe_file(request=b"no audio")
    assert set(refusal.value.body) == {"err_code", "err_msg", "request_id"}
    with pytest.raises(deepgram.BadRequestError):
        media.transcribe_url(url="https://example.org/talk.wav")
    stranger = deepgram.DeepgramClient(api_key="wrong", environment=environment)
    with pytest.raises(deepgram.core.api_error.ApiError) as refusal:
        stranger.listen.v1.media.transcribe_file(request=file)
    assert refusal.value.status_code == 401


def test_keys_of_pages_and_programs(server: RunningServer):
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


def test_silence_of_the_client_has_an_end(recognizer: Recognizer):
    async def alive(server: RunningServer) -> list[Message]:
        async with dial(address(server, **RAW)) as websocket:
            for _ in range(4):
                await websocket.send('{"type":"KeepAlive"}')
                await asyncio.sleep(0.2)
            await websocket.send(CLOSE)
            return [json.loads(message) async for message in websocket]

    with running_server(recognizer, ServerSettings(idle_timeout_s=0.6)) as server:
        heard, code, reason = asyncio.run(talk(address(server, **RAW), [bytes(3_200)]))
        assert (code, reason) == (1011, "NET-0001")
        assert [message["type"] for message in heard] == ["Metadata"]
        assert [message["type"] for message in asyncio.run(alive(server))] == ["Metadata"]


@pytest.mark.parametrize("encoding", ["linear32", "mulaw", "alaw", "linear16", "wav"])
def test_other_kinds_of_audio(open_server: RunningServer, brief: Callable[[str], Samples], encoding: str):
    samples = at_rate(brief("george"), 24_000)
    match encoding:
        case "linear32":
            data = (samples / np.float32(32_768)).astype("<f4").tobytes()
            native = natively(open_server, data, '{"type":"start","encoding":"pcm_f32le","sample_rate":24000}')
        case "mulaw" | "alaw":
            data = as_file(samples, "RAW", 24_000, subtype="ULAW" if encoding == "mulaw" else "ALAW")
            native = natively(open_server, data, f'{{"type":"start","encoding":"{encoding}","sample_rate":24000}}')
        case "linear16":
            data = np.repeat(samples, 2).tobytes()  # two channels
            native = natively(open_server, samples.tobytes(), '{"type":"start","sample_rate":24000}')
        case _:
            data = as_file(samples, "WAV", 24_000)
            native = natively(open_server, samples.tobytes(), '{"type":"start","sample_rate":24000}')
    channels = 2 if encoding == "linear16" else 1
    declared = {} if encoding == "wav" else {"encoding": encoding, "sample_rate": 24_000, "channels": channels}
    heard = said(open_server, [*packets(data, 4_001), CLOSE], **declared)
    assert transcripts(heard) == [final.text for final in native]


@pytest.mark.parametrize(("container", "declared"), [("webm", {}), ("ogg", {"encoding": "ogg-opus"})])
def test_opus_from_a_browser(open_server: RunningServer, two: Samples, container: str, declared: dict[str, str]):
    data = recorded(two, container)
    heard = said(open_server, [*packets(data, 1_000), CLOSE], **declared, interim_results="true")
    assert heard[-1]["duration"] == pytest.approx(len(two) / 16_000, abs=0.05)
    native = natively(open_server, two.tobytes())
    assert [len(text.split()) for text in transcripts(heard)] == [len(final.text.split()) for final in native]
    assert results(heard, final=False)


def test_containers_are_heard_while_they_come(open_server: RunningServer, two: Samples):
    async def scene(data: bytes) -> Message:
        async with dial(address(open_server, interim_results="true")) as websocket:
            for packet in packets(data[: len(data) // 2], 500):
                await websocket.send(packet)
            return json.loads(await websocket.recv())

    with unharmed(open_server):
        heard = asyncio.run(scene(recorded(two, "webm")))
    assert heard["channel"]["alternatives"][0]["transcript"]


@pytest.mark.parametrize("data", [b"\x1a\x45\xdf\xa3" + bytes(4_000), b"OggS" + bytes(4_000), bytes(4_000), b"OgO"])
def test_what_is_no_audio_ends_the_stream(open_server: RunningServer, data: bytes):
    pytest.importorskip("av", reason="PyAV, which decodes containers, is not installed")
    with unharmed(open_server):
        heard, code, reason = asyncio.run(talk(address(open_server), [data, CLOSE]))
    assert (code, reason) == (1008, "DATA-0000")
    assert [message["type"] for message in heard] == ["Error", "Metadata"]


def test_a_client_that_leaves_without_goodbye(open_server: RunningServer, two: Samples):
    async def scene(data: bytes, **parameters: Any) -> None:
        websocket = await dial(address(open_server, **parameters))
        await websocket.send(data)
        websocket.transport.abort()

    with unharmed(open_server):
        asyncio.run(scene(two.tobytes()[:64_000], **RAW))
        asyncio.run(scene(recorded(two, "webm")[:5_000]))


def test_the_server_stops(recognizer: Recognizer, brief: Callable[[str], Samples]):
    async def scene(server: RunningServer) -> tuple[list[Message], int | None]:
        async with dial(address(server, **RAW, interim_results="true")) as websocket:
            await websocket.send(brief("george").tobytes())
            heard = [json.loads(await websocket.recv())]
            asyncio.run_coroutine_threadsafe(server.sessions.drain(20), server.loop)
            try:
                async for message in websocket:
                    heard.append(json.loads(message))
            except ConnectionClosed:
                pass
            return heard, websocket.close_code

    with running_server(recognizer) as server:
        heard, code = asyncio.run(scene(server))
    assert code == 1001
    assert transcripts(heard)
    assert heard[-1]["type"] == "Metadata"
