"""Limits, refusals and failures, against a recognizer with scripted behaviour."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from xlsr_live.server.dialects import base
from xlsr_live.server.run import RunningServer

from tests.support.fake_recognizer import FakeEngine, FakeRecognizer
from tests.support.serving import AUDIO, get, refused, serving
from tests.support.wire import END, Conversation, dial, settles, talk


def test_plain_http_answers():
    engine = FakeEngine(queued=3)
    with serving(FakeRecognizer(engine=engine)) as server:
        assert get(server, "/healthz").json() == {"status": "ok"}
        assert "/v1/stream" in get(server, "/").text
        ready = get(server, "/readyz")
        state = {"ready": True, "why": [], "sessions": 0, "limit": 32, "queued": 3, "level": 0}
        state |= {"models": 1, "reloading": False}
        assert (ready.status_code, ready.json()) == (200, state)
        models = get(server, "/v1/models").json()
        assert models["object"] == "list"
        assert [(one["id"], one["object"], one["device"]) for one in models["data"]] == [("fake", "model", "cpu")]
        engine.alive = False
        assert get(server, "/readyz").status_code == 503
        assert get(server, "/healthz").status_code == 200
        assert refused(server) == (503, "encoder_failed")


def test_a_token_is_required_and_never_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "xlsr_live")
    with serving(token="s3cret") as server:
        assert refused(server) == (401, "unauthorized")
        assert refused(server, Authorization="Bearer wrong") == (401, "unauthorized")
        for path in ("/v1/models", "/metrics", "/v1/stream"):
            assert get(server, path, Authorization="Bearer wrong").status_code == 401
        numbers = get(server, "/metrics", Authorization="Bearer s3cret").text
        assert 'xlsr_live_refused_total{reason="unauthorized"} 5.0' in numbers
        assert get(server, "/v1/models", Authorization="Bearer s3cret").status_code == 200
        assert get(server, "/readyz").status_code == 200
        received = asyncio.run(talk(server.url, [AUDIO, END], additional_headers={"Authorization": "Bearer s3cret"}))
        assert received.finals == ["3200"]
    assert "s3cret" not in caplog.text
    assert "wrong" not in caplog.text
    assert caplog.messages.count("refused") == 5
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_pages_of_other_origins_are_refused():
    with serving(origins=("https://captions.example",)) as server:
        assert refused(server, Origin="https://evil.example") == (403, "forbidden_origin")
        for origin in ("https://captions.example", "http://localhost:3000", f"http://127.0.0.1:{server.port}"):
            assert asyncio.run(talk(server.url, [END], additional_headers={"Origin": origin})).code == 1000


def test_a_wrong_path_and_a_wrong_client_get_different_answers():
    with serving() as server:
        assert refused(server, path="/nowhere") == (404, "not_found")


def test_a_full_server_refuses_new_clients_and_keeps_open_sessions():
    async def scene(server: RunningServer) -> Conversation:
        async with dial(server.url) as first:
            await first.send(AUDIO)
            await first.recv()
            with pytest.raises(InvalidStatus) as refusal:
                await dial(server.url)
            assert refusal.value.response.status_code == 503
            assert refusal.value.response.headers["Retry-After"] == "5"
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 0)
        return await talk(server.url, [AUDIO, END])

    with serving(max_sessions=1) as server:
        assert asyncio.run(scene(server)).finals == ["3200"]


@pytest.mark.parametrize(
    ("settings", "messages", "code", "close"),
    [
        ({"idle_timeout_s": 2}, [AUDIO], "idle_timeout", 1008),
        ({"max_session_s": 2}, [AUDIO], "session_too_long", 1008),
        ({"max_message_bytes": 4_096}, [AUDIO, bytes(4_097), AUDIO], "message_too_large", 1009),
        ({"max_message_bytes": 4_096}, [AUDIO, "x" * 4_097, AUDIO], "message_too_large", 1009),
    ],
)
def test_a_limit_ends_the_session_after_its_finals(
    settings: dict[str, Any], messages: list[str | bytes], code: str, close: int
):
    with serving(**settings) as server:
        received = asyncio.run(talk(server.url, messages))
    assert received.errors == [code]
    assert received.finals == ["3200"]
    assert (received.code, received.reason) == (close, code)


def test_a_silent_client_loses_its_slot():
    with serving(idle_timeout_s=0.2) as server:
        received = asyncio.run(talk(server.url, []))
    assert (received.errors, received.code, len(received.events)) == (["idle_timeout"], 1008, 1)


def test_an_empty_message_keeps_the_session_alive():
    async def scene(server: RunningServer) -> list[str]:
        async with dial(server.url) as websocket:
            for _ in range(45):
                await websocket.send(b"")
                await asyncio.sleep(0.1)
            await websocket.send(END)
            return [json.loads(event)["type"] async for event in websocket]

    with serving(idle_timeout_s=4) as server:
        assert "error" not in asyncio.run(scene(server))


def test_an_internal_error_reveals_nothing_to_the_client(caplog: pytest.LogCaptureFixture):
    recognizer = FakeRecognizer("broken")
    with serving(recognizer) as server:
        received = asyncio.run(talk(server.url, [AUDIO]))
        assert settles(lambda: recognizer.opened[0].closed, True)
        assert settles(lambda: get(server, "/readyz").json()["sessions"], 0)
    assert (received.errors, received.code) == (["internal_error"], 1011)
    assert "secret" not in repr(received.events)
    assert "an inner secret" in caplog.text  # for the operator


def test_a_client_that_never_reads_is_dropped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "LAST_ERROR_S", 0.1)
    recognizer = FakeRecognizer("endless")

    async def scene(server: RunningServer) -> None:
        async with dial(server.url, max_queue=1) as websocket:
            await websocket.send(AUDIO)
            assert await asyncio.to_thread(settles, lambda: [one.closed for one in recognizer.opened], [True])
            websocket.transport.abort()

    with serving(recognizer, max_unread_events=100) as server:
        asyncio.run(scene(server))
        assert settles(lambda: server.sessions.count, 0)


def test_a_client_that_leaves_while_the_backlog_is_full_is_released_at_shutdown():
    recognizer = FakeRecognizer("deaf")

    async def scene(server: RunningServer) -> None:
        async with dial(server.url) as websocket:
            await websocket.send(AUDIO)
            await websocket.recv()
            websocket.transport.abort()

    with serving(recognizer) as server:
        asyncio.run(scene(server))
    assert recognizer.opened[0].closed


def test_a_stopping_server_closes_clients_in_every_state():
    async def scene(server: RunningServer) -> list[Conversation]:
        clients = [
            asyncio.create_task(talk(server.url, messages))
            for messages in ([], ['{"type":"start"}'], [AUDIO], [AUDIO, '{"type":"flush"}'])
        ]
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 4)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.sessions.drain(10), server.loop))
        return await asyncio.gather(*clients)

    with serving() as server:
        conversations = asyncio.run(scene(server))
        assert refused(server) == (503, "shutting_down")
    for received in conversations:
        assert (received.code, received.reason) == (1001, "shutting_down")
        assert not received.errors
