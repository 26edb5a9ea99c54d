"""Shared sessions on a server: access, viewers, and no effect on the session."""

from __future__ import annotations

import asyncio
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
from xlsr_live.streaming.protocol.events import (
    Error,
    Event,
    Final,
    SessionEnded,
    SessionStarted,
    Shared,
    Warning,
    from_json,
)

from tests.support.fake_recognizer import FakeRecognizer
from tests.support.serving import AUDIO, get, serving
from tests.support.viewers import read_viewed
from tests.support.wire import END, dial, listen, settles

START = '{"type":"start","share":true}'


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
        httpx.AsyncClient(timeout=60) as client,
        client.stream("GET", f"http://127.0.0.1:{server.port}/v1/shared/{key}", headers=headers) as response,
    ):
        yield response


async def viewed(server: RunningServer, key: str, **headers: str) -> list[tuple[str, Event]]:
    async with viewer(server, key, **headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        return read_viewed((await response.aread()).decode())


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
