"""A server with two fronts and the packaged model, from outside: one server, with the events of one process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import soundfile
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.server.run import running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.protocol.events import (
    Error,
    Event,
    Final,
    Moving,
    SessionEnded,
    SessionMoved,
    SpeechStarted,
    from_json,
    to_json,
)
from xlsr_live.streaming.recognizer import Recognizer

from tests.load.server_process import ready_url, start_server
from tests.support.wire import END, dial, listen, packets, settles, talk

TOKENS = """
[alice]
token = "alice"
max_sessions = 3

[bob]
token = "bob"
"""
ALICE, BOB = ({"Authorization": f"Bearer {name}"} for name in ("alice", "bob"))
LIMIT = 4
T = TypeVar("T")
CHANGING = ("lag_ms", "session", "resume", "resume_s", "movable")


class FrontsServer:
    """The process of the supervisor."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log
        self.http = url.replace("ws:", "http:").replace("/v1/stream", "")

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.http + path, headers=headers, timeout=60)

    def samples(self) -> dict[str, float]:
        families = text_string_to_metric_families(self.get("/metrics", **BOB).text)
        return {
            sample.name + json.dumps(sample.labels): sample.value for family in families for sample in family.samples
        }

    def of_fronts(self, name: str) -> list[float]:
        """The values of a metric of front 0 and front 1, of those that answer."""
        samples = self.samples()
        found = [samples.get(f'xlsr_live_{name}{{"front": "{front}"}}') for front in (0, 1)]
        return [value for value in found if value is not None]

    def total(self, name: str) -> float:
        """The sum of a metric over both fronts; a busy one may be missing in an answer."""
        while len(found := self.of_fronts(name)) < 2:
            pass
        return sum(found)

    def child(self, number: int) -> int:
        """The process id of the engine (0), or of a front (1 and later), in order of their first start."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        spawned = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return int(spawned[number])


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontsServer]:
    folder = tmp_path_factory.mktemp("fronts")
    (folder / "tokens.toml").write_text(TOKENS)
    flags = ["--fronts", "2", "--max-sessions", str(LIMIT), "--tokens-file", str(folder / "tokens.toml")]
    flags += ["--lm", "none", "--max-viewers", "2", "--resume-grace-s", "20", "--move-s", "1"]
    with (folder / "log").open("w") as log:
        process = start_server(flags, log)
        try:
            url = ready_url(process)
            assert url, (folder / "log").read_text()
            yield FrontsServer(process, url, folder / "log")
        finally:
            process.terminate()
            process.wait(60)
            process.communicate()


@pytest.fixture(autouse=True)
def _all_places_are_free(fronts: FrontsServer) -> None:
    """A place becomes free a moment after its client has closed."""
    assert settles(lambda: fronts.get("/readyz").json()["sessions"], 0)


def play(scene: Coroutine[Any, Any, T]) -> T:
    """Run a scene. A failed one leaves no connection to the next test."""

    async def whole() -> T:
        try:
            return await scene
        finally:
            while _opened:
                _opened.pop().transport.abort()

    return asyncio.run(whole())


_opened: list[ClientConnection] = []


async def start(server: FrontsServer, message: str, headers: dict[str, str] = BOB) -> tuple[ClientConnection, Any]:
    websocket = await dial(server.url, additional_headers=headers)
    _opened.append(websocket)
    await websocket.send(message)
    return websocket, from_json(await websocket.recv())


async def one_at_each(server: FrontsServer) -> list[tuple[ClientConnection, Any]]:
    """A session at front 0, and one at front 1. A busy front may leave several connections to the other one."""
    while True:
        held = [await start(server, START) for _ in range(LIMIT)]
        at = {int(started.resume.partition(".")[0]): (websocket, started) for websocket, started in held}
        kept = [at[front] for front in (0, 1)] if len(at) == 2 else []
        for websocket, started in held:
            if (websocket, started) not in kept:
                await websocket.close()
        assert await asyncio.to_thread(settles, lambda: server.total("sessions_open"), len(kept))
        if kept:
            return kept


START = '{"type":"start"}'


def clip_bytes(name: str) -> bytes:
    (clip,) = (clip for clip in load_clips() if clip.path.stem == name)
    return soundfile.read(clip.path, dtype="int16")[0].tobytes()


def comparable(events: list[Event]) -> list[dict[str, Any]]:
    plain = [json.loads(to_json(event)) for event in events]
    return [{name: value for name, value in event.items() if name not in CHANGING} for event in plain]


def test_events_are_those_of_one_process(fronts: FrontsServer, packaged: Recognizer):
    audio = [clip_bytes(name) for name in ("digits", "sentence", "clock", "spelling")]

    async def all_at(url: str, **options: Any) -> list[list[dict[str, Any]]]:
        talks = (talk(url, [START, *packets(each), END], **options) for each in audio)
        return [comparable(received.events) for received in await asyncio.gather(*talks)]

    for _ in range(3):  # a machine that is busy with other work may raise the level, which changes partials
        found = asyncio.run(all_at(fronts.url, additional_headers=BOB))
        if not any(event["level"] for events in found for event in events):
            break
    with running_server(packaged, ServerSettings()) as server:
        expected = asyncio.run(all_at(server.url))
    assert found == expected
    assert sum(event["type"] == "partial" for events in found for event in events) > 10
    opened = [value for name, value in fronts.samples().items() if name.startswith("xlsr_live_sessions_total")]
    assert sum(opened) % len(audio) == 0


def test_limits_hold_over_all_fronts(fronts: FrontsServer):
    async def refused(headers: dict[str, str]) -> str:
        with pytest.raises(InvalidStatus) as refusal:
            await dial(fronts.url, additional_headers=headers)
        return json.loads(refusal.value.response.body)["code"]

    async def scene() -> None:
        held = [await start(fronts, START, ALICE) for _ in range(3)]
        assert fronts.total("sessions_open") == len(held)
        assert {await refused(ALICE) for _ in range(4)} == {"client_full"}  # at either front
        held.append(await start(fronts, START))
        assert {await refused(BOB) for _ in range(4)} == {"server_full"}
        state = fronts.get("/readyz").json()
        assert (state["sessions"], state["limit"], state["why"]) == (LIMIT, LIMIT, ["full"])
        for websocket, _ in held:
            await websocket.close()

    play(scene())
    assert settles(lambda: fronts.get("/readyz").json()["sessions"], 0)
    assert fronts.get("/readyz").status_code == 200


def test_a_session_is_resumed_whichever_front_has_it(fronts: FrontsServer):
    audio = clip_bytes("digits")
    half = len(audio) // 4 * 2

    async def resume(token: str, events: int, busy: bool) -> list[Event]:
        others = [await dial(fronts.http.replace("http", "ws") + "/", additional_headers=BOB)] if busy else []
        async with dial(fronts.url, additional_headers=BOB) as websocket:
            await websocket.send(json.dumps({"type": "start", "resume": token, "events": events}))
            resumed = json.loads(await websocket.recv())
            assert resumed["type"] == "session_resumed"
            for packet in packets(audio[2 * resumed["received"] :]):
                await websocket.send(packet)
            await websocket.send(END)
            events_ = await listen(websocket)
            assert websocket.close_code == 1000
        for other in others:
            await other.close()
        return events_

    async def scene(busy: bool) -> list[Event]:
        websocket, started = await start(fronts, START)
        await websocket.send(audio[:half])
        websocket.transport.abort()
        return await resume(started.resume, 1, busy)

    (expected,) = [
        event
        for event in asyncio.run(talk(fronts.url, [START, audio, END], additional_headers=BOB)).events
        if isinstance(event, Final)
    ]
    before = fronts.total("resumed_total")
    for busy in (True, False, True):
        events = play(scene(busy))
        (final,) = (event for event in events if isinstance(event, Final))
        assert final.text == expected.text
        assert isinstance(events[-1], SessionEnded)
    assert fronts.total("resumed_total") == before + 3


def test_viewers_find_a_shared_session_at_any_front(fronts: FrontsServer):
    def watch(key: str) -> str:
        with httpx.stream("GET", f"{fronts.http}/v1/shared/{key}", timeout=60) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            return "".join(answer.iter_text())

    async def scene() -> list[str]:
        websocket, started = await start(fronts, '{"type":"start","share":true}')
        watching = [asyncio.create_task(asyncio.to_thread(watch, started.share)) for _ in range(2)]
        while fronts.total("viewers") < 2:
            await asyncio.sleep(0.05)
        full = await asyncio.to_thread(fronts.get, f"/v1/shared/{started.share}")
        assert full.status_code == 503
        for packet in packets(clip_bytes("digits")):
            await websocket.send(packet)
        await websocket.send(END)
        await listen(websocket)
        return await asyncio.gather(*watching)

    for seen in play(scene()):
        assert '"type":"final"' in seen
        assert '"type":"session_ended"' in seen
    for number in (0, 1, 7):
        assert fronts.get(f"/v1/shared/{number}.unknown").status_code == 404


def test_a_ticket_admits_once_at_any_front(fronts: FrontsServer):
    async def scene() -> list[int]:
        held: list[ClientConnection] = []
        statuses: list[int] = []
        for _ in range(3):
            issued = await asyncio.to_thread(httpx.post, f"{fronts.http}/v1/ticket", headers=BOB, timeout=60)
            ticket = issued.json()["ticket"]
            tries = await asyncio.gather(
                *(dial(f"{fronts.url}?ticket={ticket}") for _ in range(4)), return_exceptions=True
            )
            held += [one for one in tries if isinstance(one, ClientConnection)]
            statuses += [one.response.status_code for one in tries if isinstance(one, InvalidStatus)]
        assert len(held) == 3
        for websocket in held:
            await websocket.close()
        return statuses

    assert play(scene()) == [401] * 9


def test_metrics_cover_all_fronts_once(fronts: FrontsServer):
    samples = fronts.samples()
    assert settles(lambda: len(fronts.of_fronts("audio_seconds_total")), 2)
    assert samples[f"xlsr_live_sessions_limit{json.dumps({})}"] == LIMIT
    assert samples["xlsr_live_engine_busy_seconds_total{}"] > 0
    text = fronts.get("/metrics", **BOB).text
    assert text.count("# TYPE xlsr_live_finals_total counter") == 1
    assert fronts.get("/metrics").status_code == 401


def test_a_killed_front_loses_its_own_sessions_only_and_they_move(fronts: FrontsServer):
    async def scene() -> tuple[list[Event], list[Event]]:
        (gone, ended), (stays, _) = await one_at_each(fronts)
        os.kill(fronts.child(1), signal.SIGKILL)  # front 0
        assert await cut(gone, 60)
        assert not await cut(stays, 1)
        for packet in packets(clip_bytes("digits")):
            await stays.send(packet)
        await stays.send(END)
        lost, _ = await start(fronts, json.dumps({"type": "start", "resume": ended.resume, "events": 1}))
        await lost.close()
        origin = {"sample": 0, "utterance": 0}
        moved, started = await start(fronts, json.dumps({"type": "start", "origin": origin, "events": 1}))
        await moved.close()
        return await listen(stays), [_, started]

    async def cut(websocket: ClientConnection, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await websocket.recv()
        except TimeoutError:
            return False
        except ConnectionClosed:
            return True
        return False

    stayed, (lost, moved) = play(scene())
    assert [event for event in stayed if isinstance(event, Final)]
    assert isinstance(lost, Error)
    assert lost.code == "resume_lost"
    assert isinstance(moved, SessionMoved)
    assert settles(lambda: fronts.get("/readyz").json()["sessions"], 0)
    assert settles(lambda: len(fronts.of_fronts("sessions_open")), 2, within_s=60)


def test_a_killed_engine_is_restarted_and_sessions_go_on(fronts: FrontsServer):
    audio = clip_bytes("digits")

    async def scene() -> list[Event]:
        websocket, _ = await start(fronts, START)
        events: list[Event] = []
        await websocket.send(audio[:48_000])
        fronts.process.send_signal(signal.SIGSTOP)  # it starts no other engine before this end has shown
        try:
            os.kill(fronts.child(0), signal.SIGKILL)
            assert await asyncio.to_thread(settles, lambda: fronts.get("/readyz").json()["why"], ["failing"])
            await websocket.send(audio[48_000:])
            while not any(isinstance(event, Error) for event in events):
                events.append(from_json(await websocket.recv()))
        finally:
            fronts.process.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(settles, lambda: fronts.get("/readyz").json()["why"], [], 90)
        await websocket.send(audio)
        await websocket.send(END)
        return [*events, *await listen(websocket)]

    events = play(scene())
    assert isinstance(events[0], Event)
    assert {event.code for event in events if isinstance(event, Error)} <= {"encoder_failed"}
    assert any(isinstance(event, Error) for event in events)
    assert isinstance(events[-1], SessionEnded)
    assert "SIX TWO" in " ".join(event.text for event in events if isinstance(event, Final))


def test_the_model_cannot_change_while_it_runs(fronts: FrontsServer):
    fronts.process.send_signal(signal.SIGHUP)
    assert settles(lambda: "cannot change its model" in fronts.log.read_text(), True)
    assert fronts.get("/readyz").status_code == 200


def test_sigterm_moves_clients_finishes_utterances_and_ends_all_processes(fronts: FrontsServer):
    """The last test of this server."""
    pids = [fronts.child(number) for number in range(3)]

    async def scene() -> list[list[Event]]:
        held = [await start(fronts, START) for _ in range(2)]
        for websocket, _ in held:
            await websocket.send('{"type":"movable"}')
            await websocket.send(clip_bytes("digits"))
        for websocket, _ in held:
            while not isinstance(from_json(await websocket.recv()), SpeechStarted):
                pass  # the front has received what was sent before this audio
        fronts.process.send_signal(signal.SIGTERM)
        return await asyncio.gather(*(listen(websocket) for websocket, _ in held))

    for events in play(scene()):
        assert any(isinstance(event, Moving) for event in events)
        assert [event.text for event in events if isinstance(event, Final)] == ["ONE THREE FOUR ONE SIX TWO"]
        assert isinstance(events[-1], SessionEnded)
    assert fronts.process.wait(60) == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
