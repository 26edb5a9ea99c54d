"""Moving: a session whose server is gone, or will stop, continues on another one."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.remote import stream as client
from xlsr_live.client.remote.stream import Stream
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.dialects import native
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.protocol.events import (
    Ack,
    Error,
    Event,
    Final,
    Moving,
    Partial,
    SessionEnded,
    SessionMoved,
    SessionStarted,
    Shared,
    SpeechEnded,
    SpeechStarted,
    Warning,
    from_json,
)
from xlsr_live.streaming.recognizer import Recognizer

from tests.server.test_shutdown import DIGITS_MODEL
from tests.server.test_shutdown import serving as process_serving
from tests.support.moves import outcome
from tests.support.relay import relay
from tests.support.serving import AUDIO, get, serving
from tests.support.wire import END, dial, listen, packets, settles
from tests.support.wire import talk as converse

Clip = Callable[[str], NDArray[np.int16]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(native, "ACK_EVERY_S", 0.05)


@pytest.fixture(scope="module")
def speech(clip: Clip) -> list[bytes]:
    pause = np.zeros(16_000, np.int16)
    parts = [each for name in ("george", "jackson", "nicolas", "george") for each in (clip(name), pause)]
    return packets(np.concatenate(parts).tobytes())


@pytest.fixture(scope="module")
def unbroken(recognizer: Recognizer, speech: list[bytes]) -> list[Event]:
    with running_server(recognizer) as server:
        return asyncio.run(converse(server.url, [*speech, END])).events


@dataclass
class Talk:
    """A client that sends speech; after some packets, once such an event has come, something breaks."""

    url: str | Sequence[str]
    speech: list[bytes]
    breaks: Callable[[], Any]
    after: int  # packets
    event: type[Event] = Partial
    hold: int = 1_000  # a packet that waits for another event
    held_by: type[Event] = SessionMoved
    events: list[Event] = field(default_factory=list)

    async def run(self) -> Stream:
        async with connect(self.url) as stream:
            sender = asyncio.create_task(self._feed(stream))
            self._news = asyncio.Event()
            async for event in stream:
                self.events.append(event)
                self._news.set()
            await sender
        return stream

    async def _feed(self, stream: Stream) -> None:
        await self._until(SessionStarted, 1)
        for number, packet in enumerate(self.speech):
            if number == self.after:
                await self._until(self.event, 1)
                await asyncio.to_thread(self.breaks)
            if number == self.hold:
                await self._until(self.held_by, 1)
            with suppress(ConnectionProblem):  # the events say how the session ended
                await stream.send(packet)
        with suppress(ConnectionProblem):
            await stream.end()

    async def _until(self, kind: type[Event], count: int) -> None:
        async with asyncio.timeout(60):
            while sum(isinstance(event, kind) for event in self.events) < count:
                self._news.clear()
                await self._news.wait()


def check_unbroken(events: list[Event], expected: list[Event]) -> None:
    """No utterance is lost, doubled, renumbered or changed; one that was open begins again under its number."""
    assert outcome(events) == outcome(expected)
    assert [event for event in events if isinstance(event, Error | Warning)] == []
    open_one, last = None, -1
    for event in events:
        if isinstance(event, SpeechStarted):
            assert event.utterance in (open_one, last + 1)
            open_one = event.utterance
        elif isinstance(event, SpeechEnded):
            last, open_one = event.utterance, None


@pytest.mark.parametrize(("after", "event"), [(0, SessionStarted), (30, Partial), (65, Final), (125, SpeechStarted)])
def test_behind_one_address_another_server_continues(
    recognizer: Recognizer, speech: list[bytes], unbroken: list[Event], after: int, event: type[Event]
):
    with running_server(recognizer) as first, running_server(recognizer) as second, relay(first.port) as link:

        def kill() -> None:
            link.route(second.port)
            link.cut()
            link.mend()

        url = f"ws://127.0.0.1:{link.port}/v1/stream"
        talk = Talk(url, speech, kill, after, event)
        stream = asyncio.run(talk.run())
        assert "xlsr_live_moved_total 1.0" in get(second, "/metrics").text
    assert (stream.resumed, stream.moved) == (0, 1)
    check_unbroken(talk.events, unbroken)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_server_of_two_loses_nothing(speech: list[bytes], unbroken: list[Event]):
    with process_serving(DIGITS_MODEL) as (first, _, one), process_serving(DIGITS_MODEL) as (_, _, two):

        def kill() -> None:
            first.send_signal(signal.SIGKILL)
            first.wait()

        talk = Talk([one, two], speech, kill, after=90)
        stream = asyncio.run(talk.run())
    assert (stream.resumed, stream.moved) == (0, 1)
    check_unbroken(talk.events, unbroken)


def drain(server: RunningServer, grace_s: float, move_s: float) -> None:
    asyncio.run_coroutine_threadsafe(server.sessions.drain(grace_s, move_s), server.loop)


def test_a_session_leaves_a_server_that_will_stop_between_utterances(
    recognizer: Recognizer, speech: list[bytes], unbroken: list[Event]
):
    with running_server(recognizer) as first, running_server(recognizer) as second:
        talk = Talk([first.url, second.url], speech, lambda: drain(first, 60, 30), after=90, hold=135)
        stream = asyncio.run(talk.run())
        assert settles(lambda: first.sessions.streams, 0)
        assert "xlsr_live_dropped_samples_total 0.0" in get(first, "/metrics").text
    assert (stream.resumed, stream.moved) == (0, 1)
    check_unbroken(talk.events, unbroken)
    assert sum(isinstance(event, Moving) for event in talk.events) == 1
    again = [event for event in talk.events if isinstance(event, SpeechStarted)]
    assert len(again) == len({event.utterance for event in again}), "it moved in the middle of an utterance"


def test_without_another_server_a_session_ends_as_the_server_stops(recognizer: Recognizer, speech: list[bytes]):
    with running_server(recognizer) as server:
        breaks = partial(drain, server, 60, 0.2)
        talk = Talk(server.url, speech[:60], breaks, after=50, hold=55, held_by=Warning)
        stream = asyncio.run(talk.run())
    assert stream.moved == 0
    assert [event.code for event in talk.events if isinstance(event, Warning)] == ["shutting_down"]
    assert isinstance(talk.events[-1], SessionEnded)


def test_a_client_that_does_not_move_is_drained_at_once():
    async def scene(server: RunningServer) -> tuple[list[Event], int | None]:
        async with dial(server.url) as websocket:
            await websocket.send(AUDIO)
            started = from_json(await websocket.recv())
            assert isinstance(started, SessionStarted)
            assert started.movable
            drain(server, 60, 30)
            return await listen(websocket), websocket.close_code

    with serving() as server:
        events, code = asyncio.run(scene(server))
    assert [type(event) for event in events] == [Warning, Final, SessionEnded]
    assert code == 1001


def test_a_shared_session_is_shared_where_it_goes_on():
    async def scene(first: RunningServer, second: RunningServer) -> list[str | None]:
        async with connect([first.url, second.url]) as stream:
            events = aiter(stream)
            links: list[str | None] = []

            async def until(title: str, servers: int = 1) -> None:
                async for event in events:
                    if isinstance(event, Shared) and event.title == title and stream.moved == servers - 1:
                        return links.append(stream.share_link)

            await stream.share("A talk")
            await until("A talk")
            await stream.share("The talk")  # behind the message that this client moves
            await until("The talk")
            drain(first, 60, 30)
            await until("The talk", servers=2)
            await stream.unshare()
            await until("", servers=2)
            await stream.end()
            return links

    with serving() as first, serving() as second:
        one, two, moved, ended = asyncio.run(scene(first, second))
        assert str(one).startswith(f"http://127.0.0.1:{first.port}/view#")
        assert str(moved).startswith(f"http://127.0.0.1:{second.port}/view#")
    assert (two, ended) == (one, None)


# ── by hand ──


def start(**origin: Any) -> str:
    return json.dumps({"type": "start", "origin": origin, "events": 7})


def test_numbers_and_times_go_on(recognizer: Recognizer, clip: Clip):
    async def scene(server: RunningServer) -> tuple[list[Event], list[Ack]]:
        events: list[Event] = []
        async with dial(server.url) as websocket:
            await websocket.send(start(sample=1_536_000, utterance=5, final_end=96.85))
            for packet in packets(clip("george").tobytes()):
                await websocket.send(packet)
            while not any(isinstance(event, Ack) for event in events):
                events.append(from_json(await websocket.recv()))
            await websocket.send(END)
            async for message in websocket:
                events.append(from_json(message))
        return events, [event for event in events if isinstance(event, Ack)]

    with running_server(recognizer) as server:
        events, acks = asyncio.run(scene(server))
    (final,) = (event for event in events if isinstance(event, Final))
    assert (final.utterance, final.text) == (5, "TWO NINE FOUR EIGHT ONE")  # the first word has its final
    assert 96.85 <= final.start <= final.words[0].start <= final.end <= 102
    assert acks[0].received > acks[0].safe == 1_536_000
    assert events[-1] == SessionEnded(audio_s=101.994, utterances=6)


def test_the_event_counter_goes_on():
    async def scene(server: RunningServer) -> list[Event]:
        async with dial(server.url) as websocket:
            await websocket.send(start(sample=0))
            await websocket.send(AUDIO)
            started = from_json(await websocket.recv())
            assert isinstance(started, SessionMoved)
            websocket.transport.abort()
        async with dial(server.url) as websocket:
            await websocket.send(json.dumps({"type": "start", "resume": started.resume, "events": 8}))
            await websocket.send(END)
            return await listen(websocket)

    with serving() as server:
        resumed, *rest = asyncio.run(scene(server))
    assert (getattr(resumed, "received", None), getattr(resumed, "event", None)) == (1_600, 8)
    assert [type(event) for event in rest] == [Final, SessionEnded]


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ({"sample": -1}, "bad_config"),
        ({"sample": 1 << 60}, "bad_config"),
        ({"sample": 0, "final_end": 301}, "bad_config"),
        ({"sample": 0, "utterance": 1.5}, "bad_message"),
        ({"sample": 0, "session": "9f86d081"}, "bad_message"),
        ("mZ8fWb0s4nJq1Tg7xUcEoVh2RkPyLdAi", "bad_message"),
    ],
)
def test_a_wrong_origin_is_refused(recognizer: Recognizer, origin: Any, code: str):
    with running_server(recognizer) as server:
        answer = asyncio.run(converse(server.url, [json.dumps({"type": "start", "origin": origin}), AUDIO, END]))
    assert answer.errors == [code]


def test_an_origin_gives_no_more_than_a_start():
    async def scene(server: RunningServer) -> list[str]:
        async with dial(server.url) as websocket:
            await websocket.send(AUDIO)
            await websocket.recv()
            with pytest.raises(Exception, match="503"):
                await dial(server.url)
            await websocket.send(END)
        assert await asyncio.to_thread(settles, lambda: server.sessions.count, 0)
        answer = await converse(server.url, [start(sample=0), *[bytes(16_000)] * 3, END])
        return answer.errors

    with serving(max_sessions=1, max_session_bytes=40_000) as server:
        assert asyncio.run(scene(server)) == ["session_too_long"]


def test_an_origin_finds_no_audio_of_another_client(recognizer: Recognizer, speech: list[bytes]):
    async def scene(server: RunningServer) -> list[Event]:
        async with connect(server.url) as spoken:
            for packet in speech:
                await spoken.send(packet)
            async for event in spoken:
                if isinstance(event, Final):
                    break
            return (await converse(server.url, [start(sample=0), *[bytes(3_200)] * 20, END])).events

    with running_server(recognizer) as server:
        events = asyncio.run(scene(server))
    assert [type(event) for event in events] == [SessionMoved, SessionEnded]
