"""Resuming: after any number of broken connections the session equals an unbroken one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.remote import stream as client
from xlsr_live.client.remote.connection import resuming
from xlsr_live.client.remote.replay import ReplayBuffer
from xlsr_live.client.remote.stream import Stream
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.dialects import base, native
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.protocol.events import Error, Event, Final, SessionStarted, from_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.load.cuts import campaign, converse, cutting
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.serving import AUDIO, get, serving
from tests.support.wire import END, census, dial, listen, settles


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)


@pytest.mark.parametrize("seed", range(6))
def test_no_byte_is_lost_or_duplicated(seed: int):
    random = Random(seed)
    packets = [random.randbytes(random.randrange(1, 9_000)) for _ in range(60)]
    packets.append(bytes(-sum(map(len, packets)) % 8))
    up = [random.randrange(3_000, 60_000) for _ in range(6)]
    audio = AudioFormat(encoding="pcm_f32le", sample_rate=48_000, channels=2)

    async def scene() -> tuple[list[Event], int]:
        async with cutting(server, up) as url:
            return await converse(url, packets, audio)

    with serving() as server:
        events, resumed = asyncio.run(scene())
        assert settles(lambda: server.sessions.count, 0)
        assert f"xlsr_live_resumed_total {float(resumed)}" in get(server, "/metrics").text
    (final,) = (event for event in events if isinstance(event, Final))
    assert final.text == str(sum(map(len, packets)))
    assert resumed >= 4


def test_repeated_cuts_change_no_words(recognizer: Recognizer):
    with running_server(recognizer, ServerSettings(resume_grace_s=8)) as server:
        found = asyncio.run(campaign(server, sessions=4, cuts=16, seed=1))
        # How long the client waits after a cut during the close.
        assert settles(lambda: server.sessions.count, 0, within_s=60)
    assert not found.problems
    assert found.resumed >= 8  # other connections break while a client resumes


# ── by hand ──


async def start_session(
    server: RunningServer, *messages: str | bytes, **options: Any
) -> tuple[ClientConnection, SessionStarted]:
    websocket = await dial(server.url, **options)
    for message in messages:
        await websocket.send(message)
    started = from_json(await websocket.recv())
    assert isinstance(started, SessionStarted)
    return websocket, started


async def resume_and_end(server: RunningServer, token: object, events: int = 1, **options: Any) -> list[Event]:
    """All events for a client that resumes and ends."""
    async with dial(server.url, **options) as websocket:
        await websocket.send(json.dumps({"type": "start", "resume": token, "events": events}))
        await websocket.send(END)
        return await listen(websocket)


def codes(events: list[Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, Error)]


def test_a_client_that_stays_away_too_long_cannot_resume():
    async def scene(server: RunningServer) -> list[Event]:
        websocket, started = await start_session(server, AUDIO)
        websocket.transport.abort()
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 0)
        return await resume_and_end(server, started.resume)

    with serving(resume_grace_s=0.2) as server:
        assert codes(asyncio.run(scene(server))) == ["resume_lost"]


@pytest.mark.parametrize(
    ("settings", "messages"), [({"resume_grace_s": 0}, AUDIO), ({}, '{"type":"start","resumable":false}')]
)
def test_both_sides_can_turn_resuming_off(settings: dict[str, Any], messages: str | bytes):
    async def scene(server: RunningServer) -> None:
        websocket, started = await start_session(server, messages)
        assert not started.resume
        websocket.transport.abort()
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 0)

    with serving(**settings) as server:
        asyncio.run(scene(server))


def test_a_client_that_closes_cannot_resume():
    async def scene(server: RunningServer) -> list[Event]:
        websocket, started = await start_session(server, AUDIO)
        await websocket.close()
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 0)
        return await resume_and_end(server, started.resume)

    with serving() as server:
        assert codes(asyncio.run(scene(server))) == ["resume_lost"]


def test_only_its_own_client_can_resume_a_session(tmp_path: Path):
    file = tmp_path / "tokens.toml"
    file.write_text('[alice]\ntoken = "a"\n[bob]\ntoken = "b"\n')
    alice, bob = ({"additional_headers": {"Authorization": f"Bearer {token}"}} for token in "ab")

    async def scene(server: RunningServer) -> tuple[list[Event], ...]:
        websocket, started = await start_session(server, AUDIO, **alice)
        websocket.transport.abort()
        stolen = await resume_and_end(server, started.resume, **bob)
        guessed = await resume_and_end(server, "x" * 32, **alice)
        too_far = await resume_and_end(server, started.resume, events=99, **alice)
        return stolen, guessed, too_far, await resume_and_end(server, started.resume, **alice)

    with serving(tokens_file=str(file)) as server:
        stolen, guessed, too_far, back = asyncio.run(scene(server))
    assert codes(stolen) == codes(guessed) == codes(too_far) == ["resume_lost"]
    assert [type(event).__name__ for event in back] == ["SessionResumed", "Final", "SessionEnded"]


def test_a_client_that_resumes_and_never_reads_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "LAST_ERROR_S", 0.1)
    recognizer = FakeRecognizer("endless")

    async def scene(server: RunningServer) -> None:
        websocket, started = await start_session(server, AUDIO)
        websocket.transport.abort()
        async with dial(server.url, max_queue=1) as back:
            await back.send(json.dumps({"type": "start", "resume": started.resume, "events": 1}))
            assert await asyncio.to_thread(settles, lambda: [one.closed for one in recognizer.opened], [True])
            back.transport.abort()

    with serving(recognizer, max_unread_events=500) as server:
        before = census(server)["tasks"]
        asyncio.run(scene(server))
        assert settles(lambda: census(server)["tasks"], before)
        assert 'errors_total{code="slow_reader"} 1.0' in get(server, "/metrics").text


def test_a_dead_connection_is_replaced():
    async def scene(server: RunningServer) -> tuple[list[Event], int | None]:
        old, started = await start_session(server, AUDIO)
        back = await resume_and_end(server, started.resume)
        assert await listen(old) == []  # until it closes, but acknowledgements
        return back, old.close_code

    with serving() as server:
        back, code = asyncio.run(scene(server))
    assert [event.text for event in back if isinstance(event, Final)] == ["3200"]
    assert code == 1012


def test_the_last_events_can_be_fetched_after_the_end():
    async def scene(server: RunningServer) -> tuple[list[Event], list[Event]]:
        websocket, started = await start_session(server, AUDIO, END)
        rest = await listen(websocket)
        return rest, await resume_and_end(server, started.resume)

    with serving() as server:
        rest, again = asyncio.run(scene(server))
    assert again[1:] == rest


def test_a_full_server_admits_only_clients_that_resume():
    async def scene(server: RunningServer) -> None:
        websocket, started = await start_session(server, AUDIO)
        with pytest.raises(InvalidStatus):
            await dial(server.url)
        websocket.transport.abort()

        async def other() -> tuple[list[str], int | None]:
            async with dial(server.url) as late:
                await late.send(AUDIO)
                return codes(await listen(late)), late.close_code

        answer: object = None
        while answer is None:  # until the server detects the broken connection
            try:
                answer = await other()
            except InvalidStatus:
                await asyncio.sleep(0.01)
        assert answer == (["server_full"], 1013)
        assert [event.text for event in await resume_and_end(server, started.resume) if isinstance(event, Final)] == [
            "3200"
        ]

    with serving(max_sessions=1) as server:
        asyncio.run(scene(server))


@pytest.mark.parametrize("limit", ["max_sessions", "max_client_sessions"])
def test_a_full_server_admits_who_resumes_before_it_detects_the_broken_connection(limit: str):
    async def scene(server: RunningServer) -> tuple[list[Event], list[str], int | None]:
        old, started = await start_session(server, AUDIO)  # stays open, as after a change of the network
        with pytest.raises(InvalidStatus):
            await dial(server.url)
        async with dial(server.url + "?resume=1") as other:
            await other.send(AUDIO)
            refused = codes(await listen(other))
        async with dial(server.url + "?resume=1") as back:
            await back.send(json.dumps({"type": "start", "resume": started.resume, "events": 1}))
            await back.send(END)
            events = await listen(back)
        await listen(old)
        return events, refused, old.close_code

    with serving(**{limit: 1}) as server:
        events, refused, code = asyncio.run(scene(server))
    assert [event.text for event in events if isinstance(event, Final)] == ["3200"]
    assert (refused, code) == ([{"max_sessions": "server_full", "max_client_sessions": "client_full"}[limit]], 1012)


def test_the_client_says_that_it_resumes():
    async def scene(server: RunningServer) -> tuple[list[Event], int]:
        async with cutting(server, [3_000], half_open=True) as url:
            return await converse(url, [AUDIO] * 4, AudioFormat())

    with serving(max_sessions=1) as server:
        events, resumed = asyncio.run(scene(server))
    assert [event.text for event in events if isinstance(event, Final)] == ["12800"]
    assert resumed == 1
    assert resuming("ws://studio/v1/stream?x=1") == "ws://studio/v1/stream?x=1&resume=1"


def test_a_client_that_might_resume_and_does_not_gets_no_slot():
    """While a client is away the server accepts connections, because only the first message shows a resumption."""

    async def scene(server: RunningServer) -> list[list[str]]:
        websocket, started = await start_session(server, AUDIO)
        websocket.transport.abort()
        silent: list[ClientConnection] = []
        while len(silent) < 5:
            try:
                silent.append(await dial(server.url))
            except InvalidStatus:  # the server has not detected the broken connection yet
                await asyncio.sleep(0.01)
        answer = await asyncio.to_thread(get, server, "/readyz")
        assert (answer.status_code, answer.json()["sessions"]) == (200, 1)
        await silent[0].send(AUDIO)
        answers = [codes(await listen(one)) for one in silent]
        assert [event.text for event in await resume_and_end(server, started.resume) if isinstance(event, Final)] == [
            "3200"
        ]
        return answers

    with serving(max_sessions=3, max_client_sessions=1, request_timeout_s=3) as server:
        assert asyncio.run(scene(server)) == [["client_full"]] + 4 * [["idle_timeout"]]


def test_a_client_that_is_away_has_no_idle_timeout():
    async def scene(server: RunningServer) -> list[Event]:
        websocket, started = await start_session(server, AUDIO)
        websocket.transport.abort()
        await asyncio.sleep(3.5)
        return await resume_and_end(server, started.resume)

    with serving(idle_timeout_s=3, resume_grace_s=20) as server:
        back = asyncio.run(scene(server))
    assert not codes(back)
    assert [event.text for event in back if isinstance(event, Final)] == ["3200"]


def test_a_stopping_server_waits_for_no_client_that_is_away():
    async def scene(server: RunningServer) -> None:
        websocket, _ = await start_session(server, AUDIO)
        websocket.transport.abort()
        async with asyncio.timeout(20):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.sessions.drain(600), server.loop))

    with serving(resume_grace_s=600) as server:
        asyncio.run(scene(server))
        assert settles(lambda: server.sessions.count, 0)


def test_a_client_gives_up_when_the_server_has_stopped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "SEARCH_S", 2.0)

    async def scene() -> None:
        async with cutting(server, [3_000]) as url, connect(url) as stream:
            await anext(aiter(stream))
            await asyncio.gather(stop(), send_until_it_fails(stream))

    async def stop() -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.sessions.drain(0), server.loop))

    async def send_until_it_fails(stream: Stream) -> None:
        for _ in range(100_000):
            await stream.send(AUDIO)

    with serving(resume_grace_s=0.1) as server, pytest.raises(ConnectionProblem):
        asyncio.run(scene())


def test_a_waiting_sender_continues_after_an_acknowledgement(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "ReplayBuffer", lambda size, config: ReplayBuffer(size, config, limit=100_000))
    monkeypatch.setattr(native, "ACK_EVERY_S", 0.05)
    with serving(FakeRecognizer()) as server:
        events, _ = asyncio.run(converse(server.url, [bytes(30_000)] * 8, AudioFormat()))
    assert [event.text for event in events if isinstance(event, Final)] == ["240000"]
