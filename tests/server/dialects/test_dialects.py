"""All dialects on one server at once: each client gets its own transcript, the native protocol's."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, as_file, fetch_native_finals, leaves_nothing_behind
from tests.support.serving import metrics
from tests.support.wire import dial, packets, settles

COMPLETED = "conversation.item.input_audio_transcription.completed"
START = '{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/pcm","rate":16000}}}}}'


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(vosk_port=0, wyoming_port=0)) as server:
        yield server


def address(server: RunningServer, path: str = "") -> str:
    return f"ws://127.0.0.1:{server.port}/{path}"


def append(data: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()})


async def vosk(server: RunningServer, data: bytes) -> str:
    texts: list[str] = []
    async with dial(address(server)) as websocket:
        await websocket.send('{"config":{"sample_rate":16000}}')
        for message in (*packets(data, 6_400), '{"eof":1}'):
            await websocket.send(message)
            texts.append(json.loads(await websocket.recv()).get("text", ""))
    return " ".join(filter(None, texts))


async def deepgram(server: RunningServer, data: bytes) -> str:
    async with dial(address(server, "v1/listen?encoding=linear16&sample_rate=16000")) as websocket:
        for message in (*packets(data, 6_400), '{"type":"CloseStream"}'):
            await websocket.send(message)
        received = [json.loads(message) async for message in websocket]
    results = [message for message in received if message["type"] == "Results"]
    return " ".join(result["channel"]["alternatives"][0]["transcript"] for result in results)


async def realtime(server: RunningServer, data: bytes) -> str:
    async with dial(address(server, "v1/realtime")) as websocket:
        manual = '{"type":"input_audio_buffer.commit"}', '{"type":"input_audio_buffer.clear"}'
        for message in (START, *map(append, packets(data, 6_400)), *manual):
            await websocket.send(message)
        texts: list[str] = []
        while (received := json.loads(await websocket.recv()))["type"] != "input_audio_buffer.cleared":
            texts += [received["transcript"]] if received["type"] == COMPLETED else []
    return " ".join(filter(None, texts))


async def deepgram_file(server: RunningServer, data: bytes) -> str:
    async with httpx.AsyncClient(timeout=120) as client:
        url = f"http://127.0.0.1:{server.port}/v1/listen"
        answer = (await client.post(url, content=as_file(np.frombuffer(data, np.int16)))).json()
    return answer["results"]["channels"][0]["alternatives"][0]["transcript"]


async def http(server: RunningServer, data: bytes) -> str:
    file = as_file(np.frombuffer(data, np.int16))
    async with httpx.AsyncClient(timeout=120) as client:
        url = f"http://127.0.0.1:{server.port}/v1/audio/transcriptions"
        return (await client.post(url, files={"file": ("talk.wav", file)})).json()["text"]


async def wyoming(server: RunningServer, data: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
    for packet in packets(data, 6_400):
        writer.write(json.dumps({"type": "audio-chunk", "payload_length": len(packet)}).encode() + b"\n" + packet)
    writer.write(b'{"type":"audio-stop"}\n')
    try:
        while True:
            head = json.loads(await reader.readline())
            body = json.loads(await reader.readexactly(head.get("data_length", 0)) or b"{}")
            if head["type"] == "transcript":
                return body["text"]
    finally:
        writer.close()


DIALECTS: list[Callable[[RunningServer, bytes], Awaitable[str]]] = [vosk, deepgram, realtime, http, wyoming]


def test_ten_clients_of_five_dialects_at_once(server: RunningServer, clip: Callable[[str], Samples]):
    voices = [clip(name) for name in ("george", "jackson", "nicolas")]
    pieces = [voice[at : at + 44_000] for voice in voices for at in (0, 16_000, 36_000)]
    every = [samples.tobytes() for samples in (*pieces, voices[0][-30_000:])]

    async def together() -> list[str]:
        return await asyncio.gather(*(DIALECTS[at % 5](server, data) for at, data in enumerate(every)))

    async def native() -> list[str]:
        return [" ".join(final.text for final in await fetch_native_finals(server, data)) for data in every]

    wanted = asyncio.run(native())
    with leaves_nothing_behind(server):
        received = asyncio.run(together())
    assert received == wanted
    assert len(set(received)) == 10


@pytest.mark.parametrize("dialect", [*DIALECTS, deepgram_file])
def test_every_dialect_is_counted(
    server: RunningServer, dialect: Callable[[RunningServer, bytes], Awaitable[str]], brief: Callable[[str], Samples]
):
    data = brief("jackson").tobytes()
    before = metrics(server)
    asyncio.run(dialect(server, data))
    assert settles(lambda: server.sessions.count, 0)
    grown = {name: value - before.get(name, 0.0) for name, value in metrics(server).items()}
    others = {"realtime": "openai_realtime", "http": "openai_http", "deepgram_file": "deepgram_http"}
    name = others.get(dialect.__name__, dialect.__name__)
    assert grown[f'xlsr_live_sessions_total{{"dialect": "{name}"}}'] == 1
    assert grown["xlsr_live_audio_seconds_total"] == pytest.approx(len(data) / 32_000, abs=0.01)
    assert grown["xlsr_live_finals_total"] == grown["xlsr_live_final_lag_seconds_count"] >= 1
    assert grown["xlsr_live_dropped_samples_total"] == 0


def test_a_client_has_its_limit_in_every_dialect(recognizer: Recognizer, brief: Callable[[str], Samples]):
    settings = ServerSettings(max_client_sessions=1, wyoming_port=0, request_timeout_s=60)

    async def scene(server: RunningServer) -> None:
        async with dial(server.url):
            for path in ("", "v1/listen?encoding=linear16&sample_rate=16000", "v1/realtime"):
                with pytest.raises(InvalidStatus) as refusal:
                    await dial(address(server, path))
                assert refusal.value.response.status_code == 429
            file = {"file": ("talk.wav", as_file(brief("jackson")))}
            async with httpx.AsyncClient(timeout=60) as client:
                url = f"http://127.0.0.1:{server.port}/v1/audio/transcriptions"
                assert (await client.post(url, files=file)).status_code == 429
            reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
            writer.write(b'{"type":"audio-chunk","payload_length":4}\n1234')
            assert b"client_full" in await reader.read()
            writer.close()

    with running_server(recognizer, settings) as server:
        asyncio.run(scene(server))
        assert {name: value for name, value in metrics(server).items() if "refused" in name} == {
            'xlsr_live_refused_total{"reason": "client_full"}': 4
        }


def test_the_server_stops_with_clients_of_every_dialect(recognizer: Recognizer, brief: Callable[[str], Samples]):
    data = brief("george").tobytes()

    async def leave_open(path: str, messages: list[str | bytes], ready: str) -> tuple[list[str], int | None]:
        """Send `messages` and stay connected."""
        async with dial(address(server, path)) as websocket:
            for message in messages:
                await websocket.send(message)
            received: list[str] = []
            try:
                async for message in websocket:
                    received.append(str(message))
                    if ready in received[-1]:
                        waiting.discard(path)
            except ConnectionClosed:
                pass
            return received, websocket.close_code

    async def scene() -> list[tuple[list[str], int | None]]:
        open_clients = [
            asyncio.create_task(leave_open("", ['{"config":{"sample_rate":16000}}', data], "partial")),
            asyncio.create_task(
                leave_open("v1/listen?encoding=linear16&sample_rate=16000&vad_events=true", [data], "SpeechStarted")
            ),
            asyncio.create_task(leave_open("v1/realtime", [START, append(data)], "speech_started")),
            asyncio.create_task(leave_open("v1/stream", [data], "speech_started")),
        ]
        uploading = asyncio.create_task(http(server, data * 2))
        accepted = lambda: server.sessions.count > 4 or uploading.done()  # noqa: E731
        assert await asyncio.to_thread(settles, lambda: (len(waiting), accepted()), (0, True))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.sessions.drain(30), server.loop))
        assert await uploading  # accepted audio is finished
        return await asyncio.gather(*open_clients)

    waiting = {"", "v1/listen?encoding=linear16&sample_rate=16000&vad_events=true", "v1/realtime", "v1/stream"}
    with running_server(recognizer) as server:
        conversations = asyncio.run(scene())
        (native,) = [json.loads(message)["text"] for message in conversations[-1][0] if '"final"' in message]
    assert [code for _, code in conversations] == [1012, 1012, 1012, 1001]  # other protocols' clients connect again
    for received, _ in conversations:
        assert any(native in message for message in received)
