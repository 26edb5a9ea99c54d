"""A connection that breaks, anywhere, as often as it likes: the session is that of an unbroken one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.remote import stream as client
from xlsr_live.client.remote.replay import ReplayBuffer
from xlsr_live.client.remote.stream import Stream
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.dialects import base, native
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.sessions.link import Link
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
def test_not_a_byte_is_lost_or_doubled(seed: int):
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


def test_cut_again_and_again_the_words_are_those_of_an_unbroken_connection(recognizer: Recognizer):
    with running_server(recognizer, ServerSettings(resume_grace_s=8)) as server:
        found = asyncio.run(campaign(server, sessions=4, cuts=16, seed=1))
        assert settles(lambda: server.sessions.count, 0)  # a cut over the goodbye is waited for, that long
    assert not found.problems
    assert found.resumed >= 8  # others break while a client comes back


# ── by hand ──


async def begun(server: RunningServer, *said: str | bytes, **options: Any) -> tuple[ClientConnection, SessionStarted]:
    websocket = await dial(server.url, **options)
    for message in said:
        await websocket.send(message)
    started = from_json(await websocket.recv())
    assert isinstance(started, SessionStarted)
    return websocket, started


async def come_back(server: RunningServer, token: object, events: int = 1, **options: Any) -> list[Event]:
    """Everything that is said to a client that comes back and ends."""
    async with dial(server.url, **options) as websocket:
        await websocket.send(json.dumps({"type": "start", "resume": token, "events": events}))
        await websocket.send(END)
        return await listen(websocket)


def codes(events: list[Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, Error)]


def test_who_stays_away_too_long_finds_nothing():
    async def scene(server: RunningServer) -> list[Event]:
        websocket, started = await begun(server, AUDIO)
        websocket.transport.abort()
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 0)
        return await come_back(server, started.resume)

    with serving(resume_grace_s=0.2) as server:
        assert codes(asyncio.run(scene(server))) == ["resume_lost"]


@pytest.mark.parametrize(
    ("settings", "said"), [({"resume_grace_s": 0}, AUDIO), ({}, '{"type":"start","resumable":false}')]
)
def test_both_sides_can_do_without(settings: dict[str, Any], said: str | bytes):
    async def scene(server: RunningServer) -> None:
        websocket, started = await begun(server, said)
        assert not started.resume
        websocket.transport.abort()
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 0)

    with serving(**settings) as server:
        asyncio.run(scene(server))


def test_who_closes_has_left():
    async def scene(server: RunningServer) -> list[Event]:
        websocket, started = await begun(server, AUDIO)
        await websocket.close()
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 0)
        return await come_back(server, started.resume)

    with serving() as server:
        assert codes(asyncio.run(scene(server))) == ["resume_lost"]


def test_a_session_is_its_clients_alone(tmp_path: Path):
    file = tmp_path / "tokens.toml"
    file.write_text('[alice]\ntoken = "a"\n[bob]\ntoken = "b"\n')
    alice, bob = ({"additional_headers": {"Authorization": f"Bearer {token}"}} for token in "ab")

    async def scene(server: RunningServer) -> tuple[list[Event], ...]:
        websocket, started = await begun(server, AUDIO, **alice)
        websocket.transport.abort()
        stolen = await come_back(server, started.resume, **bob)
        guessed = await come_back(server, "x" * 32, **alice)
        too_far = await come_back(server, started.resume, events=99, **alice)
        return stolen, guessed, too_far, await come_back(server, started.resume, **alice)

    with serving(tokens_file=str(file)) as server:
        stolen, guessed, too_far, back = asyncio.run(scene(server))
    assert codes(stolen) == codes(guessed) == codes(too_far) == ["resume_lost"]
    assert [type(event).__name__ for event in back] == ["SessionResumed", "Final", "SessionEnded"]


def test_audio_that_comes_in_the_moment_of_a_return_is_not_heard_twice():
    """The client that came back was told a number without it, and sends it again."""

    class Websocket:
        def __init__(self) -> None:
            self.messages = asyncio.get_running_loop().create_future()

        async def receive(self) -> dict[str, Any]:
            return await self.messages

        async def close(self, code: int) -> None:
            pass

    async def conversation() -> tuple[bytes | str, int]:
        first, second = Websocket(), Websocket()
        link = Link(first, grace_s=9.0, keeps=9)  # type: ignore[arg-type]
        reading = asyncio.create_task(link.receive())
        await asyncio.sleep(0)  # it waits for a message
        first.messages.set_result({"type": "websocket.receive", "bytes": b"once"})
        link.attach(second, 0, "s")  # type: ignore[arg-type]
        second.messages.set_result({"type": "websocket.receive", "bytes": b"again"})
        return await reading, link.received

    assert asyncio.run(conversation()) == (b"again", 5)


def test_who_comes_back_at_the_edge_of_what_is_kept_gets_all_of_it():
    """Another event comes in the same moment."""

    class Websocket:
        def __init__(self) -> None:
            self.heard: list[str] = []

        async def send_text(self, text: str) -> None:
            self.heard.append(text)

        async def close(self, code: int) -> None:
            pass

    async def conversation() -> list[str]:
        first, second = Websocket(), Websocket()
        link = Link(first, grace_s=9.0, keeps=3)  # type: ignore[arg-type]
        for number in range(5):
            await link.send(f"event {number}")
        link.attach(second, 2, "s")  # type: ignore[arg-type]
        await link.send("event 5")
        return second.heard[1:]

    assert asyncio.run(conversation()) == [f"event {number}" for number in range(2, 6)]


def test_who_comes_back_and_never_reads_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "LAST_ERROR_S", 0.1)
    recognizer = FakeRecognizer("endless")

    async def scene(server: RunningServer) -> None:
        websocket, started = await begun(server, AUDIO)
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


def test_a_connection_that_only_the_server_believes_in_is_replaced():
    async def scene(server: RunningServer) -> tuple[list[Event], int | None]:
        old, started = await begun(server, AUDIO)
        back = await come_back(server, started.resume)
        with pytest.raises(ConnectionClosed):
            await old.recv()
        return back, old.close_code

    with serving() as server:
        back, code = asyncio.run(scene(server))
    assert [event.text for event in back if isinstance(event, Final)] == ["3200"]
    assert code == 1012


def test_the_last_events_can_be_fetched_after_the_end():
    async def scene(server: RunningServer) -> tuple[list[Event], list[Event]]:
        websocket, started = await begun(server, AUDIO, END)
        rest = await listen(websocket)
        return rest, await come_back(server, started.resume)

    with serving() as server:
        rest, again = asyncio.run(scene(server))
    assert again[1:] == rest


def test_a_full_server_lets_in_who_comes_back_and_nobody_else():
    async def scene(server: RunningServer) -> None:
        websocket, started = await begun(server, AUDIO)
        with pytest.raises(InvalidStatus):
            await dial(server.url)
        websocket.transport.abort()

        async def other() -> tuple[list[str], int | None]:
            async with dial(server.url) as late:
                await late.send(AUDIO)
                return codes(await listen(late)), late.close_code

        answer: object = None
        while answer is None:  # until the server has seen that the connection is gone
            try:
                answer = await other()
            except InvalidStatus:
                await asyncio.sleep(0.01)
        assert answer == (["server_full"], 1013)
        assert [event.text for event in await come_back(server, started.resume) if isinstance(event, Final)] == ["3200"]

    with serving(max_sessions=1) as server:
        asyncio.run(scene(server))


def test_who_might_come_back_and_does_not_say_so_takes_no_place():
    """While a client is away others are let in who may be it: their first message says so, or they have nothing."""

    async def scene(server: RunningServer) -> list[list[str]]:
        websocket, started = await begun(server, AUDIO)
        websocket.transport.abort()
        silent: list[ClientConnection] = []
        while len(silent) < 5:
            try:
                silent.append(await dial(server.url))
            except InvalidStatus:  # the server has not seen yet that the connection is gone
                await asyncio.sleep(0.01)
        answer = await asyncio.to_thread(get, server, "/readyz")
        assert (answer.status_code, answer.json()["sessions"]) == (200, 1)
        await silent[0].send(AUDIO)
        heard = [codes(await listen(one)) for one in silent]
        assert [event.text for event in await come_back(server, started.resume) if isinstance(event, Final)] == ["3200"]
        return heard

    with serving(max_sessions=3, max_client_sessions=1, request_timeout_s=0.5) as server:
        assert asyncio.run(scene(server)) == [["client_full"]] + 4 * [["idle_timeout"]]


def test_while_the_client_is_away_nobody_waits_for_its_messages():
    async def scene(server: RunningServer) -> list[Event]:
        websocket, started = await begun(server, AUDIO)
        websocket.transport.abort()
        await asyncio.sleep(1.5)
        return await come_back(server, started.resume)

    with serving(idle_timeout_s=1, resume_grace_s=20) as server:
        back = asyncio.run(scene(server))
    assert not codes(back)
    assert [event.text for event in back if isinstance(event, Final)] == ["3200"]


def test_at_the_end_of_the_server_nobody_is_waited_for():
    async def scene(server: RunningServer) -> None:
        websocket, _ = await begun(server, AUDIO)
        websocket.transport.abort()
        async with asyncio.timeout(20):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.sessions.drain(600), server.loop))

    with serving(resume_grace_s=600) as server:
        asyncio.run(scene(server))
        assert settles(lambda: server.sessions.count, 0)


def test_a_client_gives_up_on_a_server_that_is_gone():
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


# ── what is kept to be sent again ──


@given(st.lists(st.integers(0, 40), max_size=30), st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_sent_again_goes_on_where_the_server_is(sizes: list[int], data: st.DataObject):
    replay, sent, marks = ReplayBuffer(4), b"", []
    for number, size in enumerate(sizes):
        packet = bytes([number % 251]) * size
        replay.add(packet)
        sent += packet
        if number % 3 == 0:
            replay.add(f"mark {number}")
            marks.append((len(sent), f"mark {number}"))
    acknowledged = data.draw(st.integers(0, len(sent) // 4))
    received = data.draw(st.integers(acknowledged, len(sent) // 4))
    replay.acknowledge(acknowledged)
    rest = replay.since(received)
    assert b"".join(part for part in rest if isinstance(part, bytes)) == sent[4 * received :]
    at, told = 4 * received, []
    for part in rest:
        if isinstance(part, bytes):
            at += len(part)
        else:
            told.append((at, part))
    assert told == [mark for mark in marks if mark[0] >= 4 * received]


def test_a_sender_waits_when_too_much_is_unheard():
    replay = ReplayBuffer(2, limit=100)
    replay.add(bytes(99))
    assert not replay.full
    replay.add(bytes(1))
    assert replay.full
    replay.acknowledge(50)
    assert not replay.full
    replay.disable()
    replay.add(bytes(1_000))
    assert not replay.full


def test_an_unheard_sender_goes_on_when_it_is_heard(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "ReplayBuffer", lambda size: ReplayBuffer(size, limit=100_000))
    monkeypatch.setattr(native, "ACK_EVERY_S", 0.05)
    with serving(FakeRecognizer()) as server:
        events, _ = asyncio.run(converse(server.url, [bytes(30_000)] * 8, AudioFormat()))
    assert [event.text for event in events if isinstance(event, Final)] == ["240000"]
