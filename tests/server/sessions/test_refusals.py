"""Refusals over the wire: every dialect gives the reason and the time to retry in its own format."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.overload import Level
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fakes import FakeEncoder, sound
from tests.support.serving import code_of, serving
from tests.support.wire import dial

PCM = (32_768 * sound("AB CD " * 4)).astype("<i2").tobytes()
APPEND = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(PCM).decode()})
PATHS: dict[str, tuple[str, str | bytes]] = {  # and a message that starts a session
    "native": ("/v1/stream", PCM),
    "vosk": ("/", PCM),
    "deepgram": ("/v1/listen?encoding=linear16&sample_rate=16000", PCM),
    "realtime": ("/v1/realtime", APPEND),
}
WHEN = {"server_full": "5", "overloaded": "10", "encoder_failed": "30", "shutting_down": "10"}


class ScriptedEngine(Engine):
    """An engine with a settable level and health."""

    level = Level.NORMAL  # type: ignore[assignment]
    healthy = True  # type: ignore[assignment]


@pytest.fixture
def engine() -> Iterator[tuple[Recognizer, ScriptedEngine]]:
    encoder = FakeEncoder(context=False)
    with Recognizer(encoder) as recognizer:  # type: ignore[arg-type]
        recognizer.engine.close()
        recognizer.engine = engine = ScriptedEngine(encoder)
        yield recognizer, engine


async def refused(server: RunningServer, dialect: str) -> tuple[int, str | None, str]:
    """Status, Retry-After and code of the answer to a handshake."""
    path, _ = PATHS[dialect]
    with pytest.raises(InvalidStatus) as refusal:
        await dial(f"ws://127.0.0.1:{server.port}{path}")
    response = refusal.value.response
    return response.status_code, response.headers.get("Retry-After"), code_of(dialect, json.loads(response.body or b""))


def uploaded(server: RunningServer) -> tuple[int, str | None, str]:
    url = f"http://127.0.0.1:{server.port}/v1/audio/transcriptions"
    answer = httpx.post(url, files={"file": PCM}, timeout=60)
    return answer.status_code, answer.headers.get("Retry-After"), code_of("uploads", answer.json())


@pytest.mark.parametrize("why", WHEN)
def test_before_the_upgrade_every_dialect_answers_503_with_retry_after(
    engine: tuple[Recognizer, ScriptedEngine], why: str
):
    recognizer, scripted = engine

    async def scene(server: RunningServer) -> None:
        async with dial(server.url) as first:
            await first.send(PCM)
            await first.recv()
            scripted.level = Level.FINALS if why == "overloaded" else Level.NORMAL  # type: ignore[misc]
            scripted.healthy = why != "encoder_failed"  # type: ignore[misc]
            server.loop.call_soon_threadsafe(setattr, server.sessions, "draining", why == "shutting_down")
            for dialect in PATHS:
                assert await refused(server, dialect) == (503, WHEN[why], why)
            assert await asyncio.to_thread(uploaded, server) == (503, WHEN[why], why)

    settings = ServerSettings(max_sessions=1 if why == "server_full" else 9)
    with running_server(recognizer, settings) as server:
        asyncio.run(scene(server))


@pytest.mark.parametrize("dialect", PATHS)
def test_after_the_upgrade_every_dialect_closes_with_1013(engine: tuple[Recognizer, ScriptedEngine], dialect: str):
    recognizer, scripted = engine
    path, first = PATHS[dialect]

    async def scene(server: RunningServer) -> tuple[int | None, str | None, list[Any]]:
        received: list[Any] = []
        async with dial(f"ws://127.0.0.1:{server.port}{path}") as websocket:
            scripted.level = Level.FINALS  # type: ignore[misc]
            try:
                await websocket.send(first)
                while True:
                    received.append(json.loads(await websocket.recv()))
            except ConnectionClosed:
                return websocket.close_code, websocket.close_reason, received

    with running_server(recognizer, ServerSettings()) as server:
        code, reason, received = asyncio.run(scene(server))
    sentence = "the server is overloaded; try again later"  # where the protocol has no error message
    assert (code, reason) == (1013, sentence if dialect == "vosk" else "overloaded")
    errors = [json.dumps(message) for message in received if "rror" in message["type"]]
    assert ["overloaded" in message for message in errors] == ([] if dialect == "vosk" else [True])


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"idle_timeout_s": 0.3, "request_timeout_s": 60}, b"HTTP/1.1 400"),
        ({"request_timeout_s": 0.3, "max_upload_bytes": 12_500}, b""),  # 0.1 s more than other requests
    ],
)
def test_a_stalled_upload_is_refused(settings: dict[str, Any], answer: bytes):
    head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n"
    with serving(**settings) as server, socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
        slow.sendall(head + b"Content-Length: 9000\r\n\r\n--B\r\n")
        assert slow.recv(1 << 16).startswith(answer)
