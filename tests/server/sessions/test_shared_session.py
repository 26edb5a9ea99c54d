"""The events of a shared session, as its viewers get them."""

from __future__ import annotations

import asyncio
import json

import pytest
from xlsr_live.server.sessions import sharing
from xlsr_live.server.sessions.sharing import SharedSession, SharedSessions
from xlsr_live.streaming.protocol.events import Event, Final, Partial, Shared, SpeechEnded, from_json, to_json

from tests.support.viewers import read_viewed

BEGAN = "2026-01-02T03:04:05+00:00"


def final(number: int) -> Final:
    return Final(utterance=number, text=f"WORD {number}", words=(), start=0.0, end=1.0, confidence=1.0)


def partial(text: str) -> Partial:
    return Partial(utterance=0, committed=text, volatile="", words=(), audio_s=1.0, lag_ms=0.0)


def publish(shared: SharedSession, *events: Event) -> None:
    for event in events:
        shared.publish(event, to_json(event))


async def watched(shared: SharedSession, seen: int = 0) -> list[tuple[str, Event]]:
    return read_viewed(b"".join([part async for part in shared.watch(seen)]).decode())


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
            got.append(read_viewed((await anext(watching)).decode()))
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


def test_events_are_one_line_each():
    """A line break within `data` would end it."""
    assert "\n" not in to_json(partial("A\nB"))
    assert json.loads(to_json(partial("A\nB")))["committed"] == "A\nB"


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
