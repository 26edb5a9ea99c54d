"""Audio that is lost when a client leaves, the model fails or the server stops is reported, counted and logged."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from xlsr_live.server.access.tokens import Client
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.sessions.admission import Admission
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.protocol.codes import Code
from xlsr_live.streaming.protocol.events import Warning
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fakes import FakeEncoder, sound
from tests.support.native_reference import Samples, as_file
from tests.support.serving import code_of, metrics, serving
from tests.support.wire import dial, listen, settles

PCM = (32_768 * sound("AB CD " * 4)).astype("<i2").tobytes()
START = json.dumps({"type": "start", "resumable": False, "config": {"vad": "none", "mode": "offline"}})
SECONDS = len(PCM) / 32_000
UPLOADS = {"openai": "/v1/audio/transcriptions", "deepgram": "/v1/listen"}


class Waiting(FakeEncoder):
    """Answers only when the test allows it."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def encode(self, *request: Any) -> Any:
        assert self.may.wait(60)
        return super().encode(*request)


class Failing(FakeEncoder):
    def encode(self, *request: Any) -> Any:
        raise RuntimeError("an inner secret")

    encode_steps = encode


async def spoken_to(server: RunningServer) -> Any:
    websocket = await dial(server.url)
    await websocket.send(START)
    await websocket.send(PCM)
    assert await asyncio.to_thread(settles, lambda: metrics(server)["xlsr_live_audio_seconds_total"], SECONDS)
    return websocket


def lost(server: RunningServer) -> tuple[float, float]:
    numbers = metrics(server)
    return numbers["xlsr_live_abandoned_samples_total"], numbers["xlsr_live_dropped_samples_total"]


def test_a_server_that_cannot_wait_reports_unfinished_audio(caplog: pytest.LogCaptureFixture):
    encoder = Waiting()

    async def scene(server: RunningServer) -> list[str]:
        websocket = await spoken_to(server)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.sessions.drain(0.1), server.loop))
        return [event.message for event in await listen(websocket) if isinstance(event, Warning)]

    with Recognizer(encoder) as recognizer, running_server(recognizer) as server:  # type: ignore[arg-type]
        texts = asyncio.run(scene(server))
        assert settles(lambda: lost(server), (0.0, len(PCM) / 2))
        encoder.may.set()
    assert texts[-1] == f"the server stops; {SECONDS:.2f} s of accepted audio are not finished"
    assert "not finished" in [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_audio_abandoned_by_a_client_is_counted_separately():
    encoder = Waiting()

    async def scene(server: RunningServer) -> None:
        (await spoken_to(server)).transport.abort()
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 0)

    with Recognizer(encoder) as recognizer, running_server(recognizer) as server:  # type: ignore[arg-type]
        asyncio.run(scene(server))
        assert lost(server) == (len(PCM) / 2, 0.0)
        encoder.may.set()


# ── files ──


def upload(server: RunningServer, dialect: str, data: bytes, **fields: str) -> httpx.Response:
    url = f"http://127.0.0.1:{server.port}{UPLOADS[dialect]}"
    if dialect == "deepgram":
        return httpx.post(url, content=data, timeout=60)
    return httpx.post(url, files={"file": data}, data=fields, timeout=60)


def code(dialect: str, answer: httpx.Response) -> str:
    return answer.json()["error"]["code"] if dialect == "openai" else code_of(dialect, answer.json())


@pytest.mark.parametrize("dialect", UPLOADS)
def test_a_failed_model_is_a_server_error_for_files(dialect: str, brief: Callable[[str], Samples]):
    with Recognizer(Failing()) as recognizer, running_server(recognizer) as server:  # type: ignore[arg-type]
        answer = upload(server, dialect, as_file(brief("george")))
        numbers = metrics(server)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert code(dialect, answer) == "encoder_failed"
    assert "the model failed" in answer.text
    assert "secret" not in answer.text
    assert numbers['xlsr_live_errors_total{"code": "encoder_failed"}'] == 1


def test_a_failed_model_is_reported_in_an_event_stream(brief: Callable[[str], Samples]):
    with Recognizer(Failing()) as recognizer, running_server(recognizer) as server:  # type: ignore[arg-type]
        answer = upload(server, "openai", as_file(brief("george")), stream="true")
    assert json.loads(answer.text.removeprefix("data: "))["error"]["code"] == "encoder_failed"


@pytest.mark.parametrize("dialect", UPLOADS)
def test_a_file_longer_than_a_session_may_be_is_refused(dialect: str, brief: Callable[[str], Samples]):
    settings = ServerSettings(max_session_bytes=9_000)
    with Recognizer(FakeEncoder()) as recognizer, running_server(recognizer, settings) as server:  # type: ignore[arg-type]
        answer = upload(server, dialect, as_file(brief("george")))
    assert (answer.status_code, code(dialect, answer)) == (400, "session_too_long")


def test_uploads_in_progress_are_limited_as_sessions_are(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "xlsr_live")
    head = b"POST /v1/listen HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + bytes(100)
    with serving(max_sessions=1) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
            slow.sendall(head)
            assert settles(lambda: code("deepgram", upload(server, "deepgram", b"OggS")), "server_full")
        assert settles(lambda: code("deepgram", upload(server, "deepgram", b"OggS")), "bad_audio")
        assert metrics(server)['xlsr_live_errors_total{"code": "bad_audio"}'] >= 1
    assert "no transcript" in caplog.messages


@pytest.mark.parametrize("dialect", UPLOADS)
def test_a_file_that_another_front_takes_the_last_slot_from_is_refused(dialect: str, monkeypatch: pytest.MonkeyPatch):
    @contextmanager
    def claimed(admission: Admission, kind: str, client: Client, count: int) -> Iterator[Code | None]:
        yield Code.SERVER_FULL if kind == "session" else None

    monkeypatch.setattr(Admission, "_claimed", claimed)
    with serving() as server:
        answer = upload(server, dialect, b"OggS")
    assert (answer.status_code, answer.headers["Retry-After"], code(dialect, answer)) == (503, "5", "server_full")
