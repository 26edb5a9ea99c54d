"""Audio is charged to its client before a session gets it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from xlsr_live.server.access.clients import Account
from xlsr_live.server.access.tokens import Client
from xlsr_live.server.sessions.active import send_charged
from xlsr_live.server.sessions.admission import Lease
from xlsr_live.server.settings import ServerSettings
from xlsr_live.server.stats import Stats
from xlsr_live.streaming.config import AudioFormat


def test_an_overdrawn_client_waits_also_on_a_new_connection(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    happened: list[float | str] = []

    class Timed(Account):
        def charge(self, seconds: float, now: float) -> float:
            return super().charge(seconds, clock())

    class Session:
        async def send(self, audio: bytes) -> None:
            happened.append(len(audio) / 32_000)
            if len(happened) == 1:
                raise asyncio.CancelledError  # this client leaves while the session waits

    def clock() -> float:
        return now

    async def sleep(seconds: float) -> None:
        nonlocal now
        happened.append(f"waits {seconds:g} s")
        now += seconds

    async def connection(seconds: int) -> None:
        unused: Any = None
        lease = Lease(unused, ServerSettings(), Stats(), unused, unused, account, 1, unused, unused)
        await send_charged(cast(Any, Session()), bytes(32_000 * seconds), AudioFormat(), lease)

    account = Timed(Client("alice", audio_s_per_minute=60.0), now)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(connection(90))
    asyncio.run(connection(1))
    assert happened == [90.0, "waits 30 s", 1.0]
