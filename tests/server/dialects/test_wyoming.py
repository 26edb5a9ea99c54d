"""The Wyoming protocol, by the classes of the official package."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from xlsr_live.server.dialects.wyoming.listener import listen
from xlsr_live.server.dialects.wyoming.packets import LONGEST_HEADER
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, at_rate, leaves_nothing_behind, native_finals, pause
from tests.support.wire import packets

wyoming = pytest.importorskip("wyoming", reason="wyoming, the official package, is not installed")
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop  # noqa: E402
from wyoming.audio import AudioChunk, AudioStart, AudioStop  # noqa: E402
from wyoming.client import AsyncTcpClient  # noqa: E402
from wyoming.error import Error  # noqa: E402
from wyoming.event import Event  # noqa: E402
from wyoming.info import Describe, Info  # noqa: E402
from wyoming.ping import Ping, Pong  # noqa: E402


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(wyoming_port=0)) as server:
        yield server


@pytest.fixture
def two(brief: Callable[[str], Samples]) -> Samples:
    return np.concatenate([brief("george"), pause(1.5), brief("jackson")])


def spoken(data: bytes, rate: int = 16_000, width: int = 2, channels: int = 1) -> list[Event]:
    form = {"rate": rate, "width": width, "channels": channels}
    chunks = [AudioChunk(audio=packet, **form).event() for packet in packets(data, 2_048 * width * channels)]
    return [AudioStart(**form).event(), *chunks, AudioStop().event()]


async def talk(server: RunningServer, events: list[Event], until: Callable[[Event], bool]) -> list[Event]:
    async with AsyncTcpClient("127.0.0.1", server.wyoming_port or 0, read_timeout=60) as client:
        for event in events:
            await client.write_event(event)
        received: list[Event] = []
        while not received or not until(received[-1]):
            event = await client.read_event()
            if event is None:
                break
            received.append(event)
        return received


def replies(server: RunningServer, events: list[Event]) -> list[Event]:
    return asyncio.run(talk(server, events, lambda event: TranscriptStop.is_type(event.type)))


def transcript(received: list[Event]) -> str:
    (text,) = [Transcript.from_event(event).text for event in received if Transcript.is_type(event.type)]
    return text


def test_home_assistant_gets_a_description_before_its_timeout(server: RunningServer, recognizer: Recognizer):
    async def describe() -> Info:
        async with AsyncTcpClient("127.0.0.1", server.wyoming_port or 0, read_timeout=1) as client:
            await client.write_event(Describe().event())
            event = await client.read_event()
            assert event is not None
            return Info.from_event(event)

    info = asyncio.run(describe())
    (service,) = info.asr
    (model,) = service.models
    assert service.installed
    assert model.installed
    assert (model.name, bool(model.languages)) == (recognizer.info.name, True)
    assert service.supports_transcript_streaming
    assert service.requires_external_vad


def test_an_utterance(server: RunningServer, two: Samples):
    native = native_finals(server, two.tobytes())
    text = " ".join(final.text for final in native)
    with leaves_nothing_behind(server):
        received = replies(server, [Transcribe(language="en").event(), *spoken(two.tobytes())])
    kinds = [event.type for event in received]
    assert kinds == [
        *("transcript-start", *["transcript-chunk"] * kinds.count("transcript-chunk")),
        *("transcript", "transcript-stop"),
    ]
    assert TranscriptStart.from_event(received[0]).language == "en"
    assert transcript(received) == text
    chunks = [TranscriptChunk.from_event(event).text for event in received if TranscriptChunk.is_type(event.type)]
    assert len(chunks) > 2
    assert "".join(chunks) == text


def test_one_transcript_for_each_utterance_of_a_connection(server: RunningServer, brief: Callable[[str], Samples]):
    async def scene() -> list[str]:
        texts: list[str] = []
        async with AsyncTcpClient("127.0.0.1", server.wyoming_port or 0, read_timeout=60) as client:
            for name in ("george", "jackson"):
                for event in (Ping("x").event(), *spoken(brief(name).tobytes())):
                    await client.write_event(event)
                while (event := await client.read_event()) and not TranscriptStop.is_type(event.type):
                    if Pong.is_type(event.type):
                        assert Pong.from_event(event).text == "x"
                    if Transcript.is_type(event.type):
                        texts.append(Transcript.from_event(event).text)
        return texts

    wanted = [native_finals(server, brief(name).tobytes())[0].text for name in ("george", "jackson")]
    assert asyncio.run(scene()) == wanted


@pytest.mark.parametrize("data", [b"", bytes(10), bytes(64_000)])
def test_audio_without_speech_gets_a_transcript(server: RunningServer, data: bytes):
    assert transcript(replies(server, spoken(data))) == ""


def test_audio_stop_without_audio_is_answered(server: RunningServer):
    assert transcript(replies(server, [AudioStop().event()])) == ""


@pytest.mark.parametrize(("rate", "width", "channels"), [(48_000, 4, 1), (16_000, 3, 2), (22_050, 2, 1)])
def test_other_kinds_of_audio(
    server: RunningServer, brief: Callable[[str], Samples], rate: int, width: int, channels: int
):
    samples = at_rate(brief("george"), rate)
    wide = np.zeros((len(samples), 4), np.uint8)
    wide[:, 2:] = samples.view(np.uint8).reshape(-1, 2)
    data = np.repeat(wide[:, 4 - width :], channels, axis=0).tobytes()
    native = native_finals(server, samples.tobytes(), f'{{"type":"start","sample_rate":{rate}}}')
    events = spoken(data, rate, width, channels)[1:]  # only the first chunk has the rate
    assert transcript(replies(server, events)) == native[0].text


def test_phrases_become_hotwords(server: RunningServer, brief: Callable[[str], Samples]):
    data = brief("george").tobytes()
    first, second = native_finals(server, data)[0].words[1:3]
    phrase = f"{first.word} {second.word}S"
    (boosted,) = native_finals(server, data, json.dumps({"type": "start", "config": {"hotwords": [phrase]}}))
    wishes = Transcribe(transcript_names=[phrase], transcript_terms=["1234"], vad_sensitivity="relaxed")
    assert transcript(replies(server, [wishes.event(), *spoken(data)])) == boosted.text


def test_unknown_packets_are_skipped_with_their_payload(server: RunningServer):
    novelty = Event("novelty", {"a": 1}, b"payload\n{}")
    assert transcript(replies(server, [novelty, Event("detect"), AudioStop().event()])) == ""


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (AudioStart(rate=1, width=2, channels=1).event(), "bad_config"),
        (AudioStart(rate=16_000, width=7, channels=1).event(), "bad_config"),
        (Event("audio-start", {"rate": "fast"}), "bad_config"),
        (Event("novelty", payload=bytes((1 << 20) + 1)), "message_too_large"),
    ],
)
def test_mistakes_are_errors(server: RunningServer, event: Event, code: str):
    chunk = AudioChunk(audio=bytes(700), **{"rate": 16_000, "width": 2, "channels": 1, **event.data}).event()
    with leaves_nothing_behind(server):
        received = asyncio.run(talk(server, [event, chunk], lambda event: Error.is_type(event.type)))
    assert Error.from_event(received[-1]).code == code


def test_data_in_the_header_and_after_it_are_one(server: RunningServer):
    async def scene() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
        writer.write(b'{"type":"ping","data":{"text":"header","more":1},"data_length":15}\n{"text":"data"}')
        writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()

    assert asyncio.run(scene()).partition(b"\n")[2] == b'{"text":"data","more":1}'


@pytest.mark.parametrize(
    "data",
    [b"hello\n", b"[1]\n", b'{"type":7}\n', b'{"type":"x","data_length":-5}\n', b"x" * (LONGEST_HEADER + 1), b'{"type'],
)
def test_invalid_packets_end_the_connection(server: RunningServer, data: bytes):
    async def scene() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
        writer.write(data)
        writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), 20)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    assert asyncio.run(scene()) == b""


def test_a_client_that_leaves_and_a_server_that_stops(recognizer: Recognizer, two: Samples):
    async def scene(server: RunningServer) -> list[Event]:
        events = spoken(two.tobytes())[:-1]  # no audio-stop
        await talk(server, events, lambda event: True)

        def stop(event: Event) -> bool:
            if TranscriptChunk.is_type(event.type) and not draining:
                draining.append(asyncio.run_coroutine_threadsafe(server.sessions.drain(20), server.loop))
            return Transcript.is_type(event.type)

        draining: list[Any] = []
        return await talk(server, events, stop)

    with running_server(recognizer, ServerSettings(wyoming_port=0)) as server:
        received = asyncio.run(scene(server))
    assert transcript(received)


def test_a_client_that_left_before_it_was_accepted(server: RunningServer, monkeypatch: pytest.MonkeyPatch):
    handlers: list[Any] = []
    gone = SimpleNamespace(get_extra_info=lambda name: None, close=lambda: closed.append(True))
    closed: list[bool] = []

    async def scene() -> None:
        monkeypatch.setattr(asyncio, "start_server", start)
        admission = SimpleNamespace(settings=ServerSettings(), sessions=server.sessions)
        await listen(None, admission)  # type: ignore[arg-type]
        await handlers[0](None, gone)

    async def start(handler: Any, **_: Any) -> None:
        handlers.append(handler)

    asyncio.run(scene())
    assert closed == [True]


def test_a_full_server_describes_itself_and_refuses_audio(recognizer: Recognizer):
    async def scene(server: RunningServer) -> list[Event]:
        async with AsyncTcpClient("127.0.0.1", server.wyoming_port or 0) as first:
            await first.write_event(Describe().event())
            await first.read_event()
            return await talk(
                server, [Describe().event(), *spoken(bytes(4_000))], lambda event: Error.is_type(event.type)
            )

    with running_server(recognizer, ServerSettings(wyoming_port=0, max_sessions=1)) as server:
        received = asyncio.run(scene(server))
    assert Info.is_type(received[0].type)
    assert Error.from_event(received[-1]).code == "server_full"


def test_a_token_forbids_an_open_port():
    with pytest.raises(ConfigError, match="wyoming_open"):
        ServerSettings(host="0.0.0.0", token="s3cret", wyoming_port=0)
    ServerSettings(host="0.0.0.0", token="s3cret", wyoming_port=0, wyoming_open=True)
    ServerSettings(token="s3cret", wyoming_port=0)
