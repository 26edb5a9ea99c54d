"""Readiness, and refusals under overload."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from xlsr_live.server.run import RunningServer
from xlsr_live.streaming.overload import Level
from xlsr_live.streaming.protocol.events import Error, Event

from tests.support.fake_recognizer import FakeEngine, FakeRecognizer
from tests.support.serving import AUDIO, get, metrics, refused, serving
from tests.support.wire import END, dial, listen, talk


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"alive": False}, ["stopped"]),
        ({"healthy": False}, ["failing"]),
        ({"working_s": 31.0}, ["stalled"]),
        ({"searching_s": 31.0}, ["stalled"]),
        ({"level": Level.FINALS}, ["overloaded"]),
        ({"level": Level.SHORT, "working_s": 29.0, "queued": 99}, []),
    ],
)
def test_an_unready_server_gives_its_reasons(state: dict[str, Any], why: list[str]):
    with serving(FakeRecognizer(engine=FakeEngine(**state))) as server:
        answer = get(server, "/readyz")
        assert (answer.status_code, answer.json()["why"]) == (503 if why else 200, why)
        assert get(server, "/healthz").status_code == 200
        assert metrics(server)["xlsr_live_ready"] == (not why)


def test_full_and_draining_servers_are_unready():
    async def scene(server: RunningServer) -> None:
        async with dial(server.url) as websocket:
            await websocket.send(AUDIO)
            await websocket.recv()
            answer = await asyncio.to_thread(get, server, "/readyz")
            assert (answer.status_code, answer.json()["why"]) == (503, ["full"])
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.sessions.drain(5), server.loop))
        assert (await asyncio.to_thread(get, server, "/readyz")).json()["why"] == ["draining"]

    with serving(max_sessions=1) as server:
        asyncio.run(scene(server))


def test_an_overloaded_server_refuses_new_sessions():
    engine = FakeEngine(level=Level.FINALS)
    with serving(FakeRecognizer(engine=engine)) as server:
        assert refused(server) == (503, "overloaded")
        assert metrics(server)['xlsr_live_refused_total{"reason": "overloaded"}'] == 1
        engine.level = Level.SHORT
        assert asyncio.run(talk(server.url, [AUDIO, END])).finals == ["3200"]


def test_overload_between_the_handshake_and_the_first_audio():
    engine = FakeEngine()

    async def scene(server: RunningServer) -> tuple[list[Event], int | None]:
        async with dial(server.url) as websocket:
            engine.level = Level.FINALS
            await websocket.send(AUDIO)
            return await listen(websocket), websocket.close_code

    with serving(FakeRecognizer(engine=engine)) as server:
        (error,), code = asyncio.run(scene(server))
    assert isinstance(error, Error)
    assert (error.code, code) == ("overloaded", 1013)
