"""Shared sessions: access, the events of viewers, and no effect on the session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from msgspec import UNSET
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection
from xlsr_live.client.cli import cli
from xlsr_live.client.remote.links import view_link
from xlsr_live.server.run import RunningServer
from xlsr_live.server.sessions import sharing
from xlsr_live.server.sessions.sharing import SharedSession, SharedSessions
from xlsr_live.streaming.protocol.events import (
    Error,
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionStarted,
    Shared,
    SpeechEnded,
    Warning,
    from_json,
    to_json,
)

from tests.support.fake_recognizer import FakeRecognizer
from tests.support.serving import AUDIO, get, serving
from tests.support.wire import END, dial, listen, settles

START = '{"type":"start","share":true}'
BEGAN = "2026-01-02T03:04:05+00:00"


def final(number: int) -> Final:
    return Final(utterance=number, text=f"WORD {number}", words=(), start=0.0, end=1.0, confidence=1.0)


def partial(text: str) -> Partial:
    return Partial(utterance=0, committed=text, volatile="", words=(), audio_s=1.0, lag_ms=0.0)


def publish(shared: SharedSession, *events: Event) -> None:
    for event in events:
        shared.publish(event, to_json(event))


def read(data: str) -> list[tuple[str, Event]]:
    """Server-sent events but the title as (id, event), parsed by the rules of the HTML standard."""
    found: list[tuple[str, Event]] = []
    for block in data.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append((fields.get("id", ""), from_json(fields["data"])))
    return [(number, event) for number, event in found if not isinstance(event, Shared)]


async def watched(shared: SharedSession, seen: int = 0) -> list[tuple[str, Event]]:
    return read(b"".join([part async for part in shared.watch(seen)]).decode())


@asynccontextmanager
async def captioned(server: RunningServer, **options: Any) -> AsyncIterator[tuple[ClientConnection, str]]:
    """A shared session and its key."""
    async with dial(server.url, **options) as websocket:
        await websocket.send(START)
        started = from_json(await websocket.recv())
        assert isinstance(started, SessionStarted)
        assert isinstance(started.share, str)
        yield websocket, started.share


@asynccontextmanager
async def viewer(server: RunningServer, key: str, **headers: str) -> AsyncIterator[httpx.Response]:
    async with (
        httpx.AsyncClient() as client,
        client.stream("GET", f"http://127.0.0.1:{server.port}/v1/shared/{key}", headers=headers) as response,
    ):
        yield response


async def viewed(server: RunningServer, key: str, **headers: str) -> list[tuple[str, Event]]:
    async with viewer(server, key, **headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        return read((await response.aread()).decode())


def test_all_viewers_get_the_shared_events_and_no_token():
    async def scene() -> tuple[list[Event], list[list[tuple[str, Event]]]]:
        async with captioned(server) as (websocket, key):
            watching = [asyncio.create_task(viewed(server, key)) for _ in range(5)]
            while server_viewers(server) < 5:
                await asyncio.sleep(0.01)
            await websocket.send(AUDIO)
            await websocket.send(END)
            return await listen(websocket), await asyncio.gather(*watching)

    with serving() as server:
        own, others = asyncio.run(scene())
        assert settles(lambda: server_viewers(server), 0)
    assert [event for event in own if isinstance(event, Final)]
    shared_events = [event for event in own if isinstance(event, Final | SessionEnded)]
    for seen in others:
        assert [event for _, event in seen] == shared_events
        assert [number for number, _ in seen] == [str(at + 1) for at in range(len(shared_events))]


def server_viewers(server: RunningServer) -> float:
    (line,) = [line for line in get(server, "/metrics").text.splitlines() if line.startswith("xlsr_live_viewers ")]
    return float(line.split()[1])


def test_a_session_is_shared_only_on_request():
    async def scene() -> object:
        async with dial(server.url) as websocket:
            await websocket.send(AUDIO)
            started = from_json(await websocket.recv())
            assert isinstance(started, SessionStarted)
            return started.share

    with serving() as server:
        assert not asyncio.run(scene())


def test_a_viewer_needs_only_the_key():
    async def scene() -> tuple[int, list[int]]:
        headers = {"Authorization": "Bearer s3cret"}
        async with captioned(server, additional_headers=headers) as (_, key), viewer(server, key) as good:
            bad = []
            for other in (key[:-1], key + "x", "%00", "x" * 5_000):
                async with viewer(server, other) as response:
                    bad.append(response.status_code)
            return good.status_code, bad

    with serving(token="s3cret") as server:
        assert asyncio.run(scene()) == (200, [404] * 4)


def test_the_number_of_viewers_is_limited():
    async def scene() -> tuple[int, str, str]:
        async with (
            captioned(server) as (_, key),
            viewer(server, key),
            viewer(server, key),
            viewer(server, key) as third,
        ):
            await third.aread()
            return third.status_code, third.json()["code"], third.headers["retry-after"]

    with serving(max_viewers=2) as server:
        assert asyncio.run(scene()) == (503, "server_full", "5")
        assert settles(lambda: server_viewers(server), 0)


def test_an_open_session_can_be_shared_and_renamed():
    async def scene() -> tuple[list[Shared], list[Shared]]:
        async with dial(server.url) as websocket:
            await websocket.send('{"type":"start"}')
            await websocket.send('{"type":"share","title":"A talk"}')
            await websocket.send('{"type":"share","title":"The talk"}')
            await websocket.send(END)
            events = await listen(websocket)
            assert isinstance(events[0], SessionStarted)
            own = [event for event in events if isinstance(event, Shared)]
            assert isinstance(own[0].share, str)
            async with viewer(server, own[0].share) as response:
                data = [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data")]
            return own, [event for event in map(from_json, data) if isinstance(event, Shared)]

    with serving() as server:
        (first, second), (head,) = asyncio.run(scene())
    assert (first.title, second.title, first.share) == ("A talk", "The talk", second.share)
    assert head == replace(second, share=UNSET)  # a viewer gets no key
    assert datetime.fromisoformat(head.began).tzinfo is UTC


def test_an_open_session_can_be_shared_no_more_and_again():
    async def scene() -> list[Shared]:
        async with dial(server.url) as websocket:
            await websocket.send('{"type":"start","share":true}')
            started = from_json(await websocket.recv())
            assert isinstance(started, SessionStarted)
            async with viewer(server, str(started.share)) as response:
                await websocket.send('{"type":"share","on":false}')
                ended = [line async for line in response.aiter_lines() if "session_ended" in line]
            assert ended == []
            assert get(server, f"/v1/shared/{started.share}").status_code == 404
            await websocket.send('{"type":"share","on":false}')
            await websocket.send('{"type":"share"}')
            await websocket.send(END)
            return [event for event in await listen(websocket) if isinstance(event, Shared)]

    with serving() as server:
        first, second, third = asyncio.run(scene())
    assert (first.share, second.share) == (UNSET, UNSET)
    assert isinstance(third.share, str)


def test_viewers_get_a_new_title():
    async def scene() -> list[Event]:
        shared = SharedSession("key", BEGAN)
        watching = shared.watch(0)
        parts = [await anext(watching)]
        shared.set_title("A talk")
        parts.append(await anext(watching))
        lines = b"".join(parts).decode().splitlines()
        return [from_json(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    assert asyncio.run(scene()) == [Shared(began=BEGAN), Shared(began=BEGAN, title="A talk")]


def test_sharing_can_be_turned_off():
    async def scene() -> list[Event]:
        async with dial(server.url) as websocket:
            await websocket.send(START)
            return await listen(websocket)

    async def later() -> list[Event]:
        async with dial(server.url) as websocket:
            for message in ('{"type":"start"}', '{"type":"share"}', END):
                await websocket.send(message)
            return await listen(websocket)

    with serving(max_viewers=0) as server:
        assert [event.code for event in asyncio.run(scene()) if isinstance(event, Error)] == ["bad_config"]
        events = asyncio.run(later())
    assert [event.code for event in events if isinstance(event, Warning)] == ["bad_config"]
    assert isinstance(events[-1], SessionEnded)


def test_a_viewer_that_reconnects_misses_nothing():
    async def scene() -> list[tuple[str, Event]]:
        async with captioned(server) as (websocket, key):
            await websocket.send(AUDIO)
            await websocket.send(END)
            await listen(websocket)
            return await viewed(server, key, **{"Last-Event-ID": "1"})

    with serving() as server:
        assert [(number, type(event)) for number, event in asyncio.run(scene())] == [("2", SessionEnded)]


def test_the_key_ends_with_the_session(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharing, "ENDED_S", 0.05)

    async def scene() -> str:
        async with captioned(server) as (websocket, key):
            await websocket.send(END)
            await listen(websocket)
            return key

    with serving() as server:
        key = asyncio.run(scene())
        assert settles(lambda: get(server, f"/v1/shared/{key}").status_code, 404)


def test_a_stopping_server_closes_viewers():
    async def scene() -> list[tuple[str, Event]]:
        async with captioned(server) as (websocket, key):
            watching = asyncio.create_task(viewed(server, key))
            while server_viewers(server) < 1:
                await asyncio.sleep(0.01)
            await websocket.send(AUDIO)
            draining = asyncio.run_coroutine_threadsafe(server.sessions.drain(10), server.loop)
            await asyncio.wrap_future(draining)
            return await watching

    with serving(FakeRecognizer()) as server:
        assert isinstance(asyncio.run(scene())[-1][1], SessionEnded)


def test_a_late_viewer_gets_the_finals_and_the_current_partial():
    async def scene() -> list[tuple[str, Event]]:
        shared = SharedSession("key", BEGAN)
        publish(shared, final(0), final(1), partial("A"), partial("A B"))
        watching = asyncio.create_task(watched(shared))
        await asyncio.sleep(0)
        shared.end()
        return await watching

    shared_events = asyncio.run(scene())
    assert shared_events == [("1", final(0)), ("2", final(1)), ("", partial("A B"))]


def test_a_slow_viewer_gets_the_newest_partial_and_every_final():
    async def scene() -> list[list[tuple[str, Event]]]:
        shared, got = SharedSession("key", BEGAN), []
        watching = shared.watch(0)
        assert (await anext(watching)).startswith(b"retry: 1000\n\n")
        for number in range(3):
            for words in ("A", "A B", "A B C"):
                publish(shared, partial(words))
            if number:
                publish(shared, final(number))
                publish(shared, partial("D"))
            got.append(read((await anext(watching)).decode()))
        return got

    first, second, third = asyncio.run(scene())
    assert first == [("", partial("A B C"))]
    assert second == [("1", final(1)), ("", partial("D"))]
    assert third == [("2", final(2)), ("", partial("D"))]


def test_viewers_drop_the_partial_of_an_utterance_without_final():
    nothing = SpeechEnded(utterance=0, end=1.0, reason="silence")

    async def scene() -> list[tuple[str, Event]]:
        shared = SharedSession("key", BEGAN)
        publish(shared, final(0), nothing)  # the final contains the same words
        publish(shared, partial("A"), nothing)
        shared.end()
        return await watched(shared)

    assert asyncio.run(scene()) == [("1", final(0)), ("", nothing)]


def test_the_last_finals_of_a_long_session_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharing, "MOST_KEPT", 3)

    async def scene() -> tuple[list[str], list[str]]:
        shared = SharedSession("key", BEGAN)
        publish(shared, *map(final, range(10)))
        shared.end()
        return [number for number, _ in await watched(shared)], [number for number, _ in await watched(shared, 9)]

    assert asyncio.run(scene()) == (["8", "9", "10"], ["10"])


def test_an_unknown_event_id_starts_from_the_beginning():
    async def scene() -> list[str]:
        shared = SharedSession("key", BEGAN)
        publish(shared, final(0))
        shared.end()
        return [number for number, _ in await watched(shared, 77)]

    assert asyncio.run(scene()) == ["1"]


def test_idle_streams_get_comments_for_proxies(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharing, "BEAT_S", 0.01)

    async def scene() -> list[bytes]:
        watching = SharedSession("key", BEGAN).watch(0)
        return [await anext(watching) for _ in range(3)]

    assert asyncio.run(scene())[1:] == [b":\n\n", b":\n\n"]


def test_ended_sessions_do_not_pile_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharing, "MOST_ENDED", 2)

    async def scene() -> list[bool]:
        shared = SharedSessions(limit=1)
        sessions = [shared.open(BEGAN) for _ in range(5)]
        for one in sessions:
            shared.close(one)
        return [shared.find(one.key) is one for one in sessions]

    assert asyncio.run(scene()) == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("ws://127.0.0.1:8765/v1/stream", "http://127.0.0.1:8765/view#KEY"),
        ("wss://example.org/speech/v1/stream?x=1", "https://example.org/speech/view#KEY"),
    ],
)
def test_the_link_for_viewers(url: str, link: str):
    assert view_link(url, "KEY") == link


def test_the_command_line_prints_the_link(tmp_path: Path):
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.zeros(16_000, np.int16), 16_000)
    with serving() as server:
        command = ["stream", str(path), "--url", server.url, "--pace", "0", "--share"]
        ran = CliRunner().invoke(cli, command)
        assert ran.exit_code == 0, ran.output
        assert f"others can watch at http://127.0.0.1:{server.port}/view#" in ran.stderr
    assert CliRunner().invoke(cli, ["mic", "--share"]).exit_code == 2


def test_events_are_one_line_each():
    """A line break within `data` would end it."""
    assert "\n" not in to_json(partial("A\nB"))
    assert json.loads(to_json(partial("A\nB")))["committed"] == "A\nB"
