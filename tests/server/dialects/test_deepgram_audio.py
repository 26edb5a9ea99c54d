"""Deepgram's live protocol: kinds of audio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.deepgram_client import CLOSE_STREAM, Message, address, answers, results, talk, transcripts
from tests.support.native_reference import Samples, as_file, at_rate, leaves_nothing_behind, native_finals, pause
from tests.support.serving import recorded
from tests.support.wire import dial, packets


@pytest.fixture(scope="module")
def open_server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture
def two(brief: Callable[[str], Samples]) -> Samples:
    return np.concatenate([brief("george"), pause(1.5), brief("jackson"), pause(1.5)])


@pytest.mark.parametrize("encoding", ["linear32", "mulaw", "alaw", "linear16", "wav"])
def test_other_kinds_of_audio(open_server: RunningServer, brief: Callable[[str], Samples], encoding: str):
    samples = at_rate(brief("george"), 24_000)
    match encoding:
        case "linear32":
            data = (samples / np.float32(32_768)).astype("<f4").tobytes()
            native = native_finals(open_server, data, '{"type":"start","encoding":"pcm_f32le","sample_rate":24000}')
        case "mulaw" | "alaw":
            data = as_file(samples, "RAW", 24_000, subtype="ULAW" if encoding == "mulaw" else "ALAW")
            native = native_finals(open_server, data, f'{{"type":"start","encoding":"{encoding}","sample_rate":24000}}')
        case "linear16":
            data = np.repeat(samples, 2).tobytes()  # two channels
            native = native_finals(open_server, samples.tobytes(), '{"type":"start","sample_rate":24000}')
        case _:
            data = as_file(samples, "WAV", 24_000)
            native = native_finals(open_server, samples.tobytes(), '{"type":"start","sample_rate":24000}')
    channels = 2 if encoding == "linear16" else 1
    declared = {} if encoding == "wav" else {"encoding": encoding, "sample_rate": 24_000, "channels": channels}
    received = answers(open_server, [*packets(data, 4_001), CLOSE_STREAM], **declared)
    assert transcripts(received) == [final.text for final in native]


@pytest.mark.parametrize(("container", "declared"), [("webm", {}), ("ogg", {"encoding": "ogg-opus"})])
def test_opus_from_a_browser(open_server: RunningServer, two: Samples, container: str, declared: dict[str, str]):
    data = recorded(two, container)
    received = answers(open_server, [*packets(data, 1_000), CLOSE_STREAM], **declared, interim_results="true")
    assert received[-1]["duration"] == pytest.approx(len(two) / 16_000, abs=0.05)
    native = native_finals(open_server, two.tobytes())
    assert [len(text.split()) for text in transcripts(received)] == [len(final.text.split()) for final in native]
    assert results(received, final=False)


def test_containers_are_decoded_while_they_arrive(open_server: RunningServer, two: Samples):
    async def scene(data: bytes) -> Message:
        async with dial(address(open_server, interim_results="true")) as websocket:
            for packet in packets(data[: len(data) // 2], 500):
                await websocket.send(packet)
            return json.loads(await websocket.recv())

    with leaves_nothing_behind(open_server):
        received = asyncio.run(scene(recorded(two, "webm")))
    assert received["channel"]["alternatives"][0]["transcript"]


@pytest.mark.parametrize("data", [b"\x1a\x45\xdf\xa3" + bytes(4_000), b"OggS" + bytes(4_000), bytes(4_000), b"OgO"])
def test_bytes_that_are_no_audio_end_the_stream(open_server: RunningServer, data: bytes):
    pytest.importorskip("av", reason="PyAV, which decodes containers, is not installed")
    with leaves_nothing_behind(open_server):
        received, code, reason = asyncio.run(talk(address(open_server), [data, CLOSE_STREAM]))
    assert (code, reason) == (1008, "DATA-0000")
    assert [message["type"] for message in received] == ["Error", "Metadata"]
