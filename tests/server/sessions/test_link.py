"""The link of a client that may resume: its states, and the sample count while a websocket is replaced."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from xlsr_live.server.sessions.link import Link, LinkState
from xlsr_live.server.transport import ClientLeft


def test_audio_that_arrives_while_the_link_is_replaced_counts_once():
    """The number of samples in `session_resumed` is without it, so the client sends it again."""

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
        await asyncio.sleep(0)  # the client waits for a message
        first.messages.set_result({"type": "websocket.receive", "bytes": b"once"})
        link.attach(second, 0, "s")  # type: ignore[arg-type]
        second.messages.set_result({"type": "websocket.receive", "bytes": b"again"})
        return await reading, link.received

    assert asyncio.run(conversation()) == (b"again", 5)


def test_a_client_that_needs_the_oldest_kept_event_gets_it():
    """Another event arrives at the same time."""

    class Websocket:
        def __init__(self) -> None:
            self.sent: list[str] = []

        async def send_text(self, text: str) -> None:
            self.sent.append(text)

        async def close(self, code: int) -> None:
            pass

    async def conversation() -> list[str]:
        first, second = Websocket(), Websocket()
        link = Link(first, grace_s=9.0, keeps=3)  # type: ignore[arg-type]
        for number in range(5):
            await link.send(f"event {number}")
        link.attach(second, 2, "s")  # type: ignore[arg-type]
        await link.send("event 5")
        return second.sent[1:]

    assert asyncio.run(conversation()) == [f"event {number}" for number in range(2, 6)]


class Silent:
    """A websocket whose client does nothing until it is cut."""

    def __init__(self) -> None:
        self.cut = asyncio.Event()
        self.closed: int | None = None

    async def receive(self) -> dict[str, Any]:
        await self.cut.wait()
        return {"type": "websocket.disconnect"}  # without a close frame

    async def close(self, code: int, reason: str = "") -> None:
        self.closed = code


def test_a_client_with_a_broken_connection_is_away_until_it_resumes_or_the_grace_period_ends():
    async def scene(comes_back: bool) -> tuple[LinkState, ...]:
        first, second = Silent(), Silent()
        link = Link(first, grace_s=0.05, keeps=9)  # type: ignore[arg-type]
        reading = asyncio.create_task(link.receive())
        first.cut.set()
        while not link.away:
            await asyncio.sleep(0)
        if comes_back:
            assert link.attach(second, 0, "s") is not None  # type: ignore[arg-type]
            state = link.state
            reading.cancel()
            await asyncio.wait([reading])
            return LinkState.AWAY, state
        with pytest.raises(ClientLeft):
            await reading
        assert link.attach(second, 0, "s") is None  # type: ignore[arg-type]
        return LinkState.AWAY, link.state

    assert asyncio.run(scene(True)) == (LinkState.AWAY, LinkState.CONNECTED)
    assert asyncio.run(scene(False)) == (LinkState.AWAY, LinkState.GONE)


def test_an_abandoned_link_cannot_be_resumed():
    async def scene() -> None:
        first = Silent()
        link = Link(first, grace_s=9, keeps=9)  # type: ignore[arg-type]
        link.abandon()
        assert link.state is LinkState.CONNECTED
        assert link.attach(Silent(), 0, "s") is None  # type: ignore[arg-type]
        first.cut.set()
        with pytest.raises(ClientLeft):
            await link.receive()
        assert link.state is LinkState.GONE

    asyncio.run(scene())


def test_a_closed_link_stays_closed():
    async def scene() -> None:
        websocket = Silent()
        link = Link(websocket, grace_s=9, keeps=9)  # type: ignore[arg-type]
        await link.close(1000, "")
        assert (websocket.closed, link.state) == (1000, LinkState.CLOSED)
        assert link.attach(Silent(), 0, "s") is None  # type: ignore[arg-type]
        websocket.cut.set()
        with pytest.raises(ClientLeft):
            await link.receive()
        assert link.state is LinkState.CLOSED

    asyncio.run(scene())
