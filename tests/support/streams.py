"""Streams in an event loop, with an encoder that a test can hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.live import StreamSession
from xlsr_live.streaming.protocol.events import Event
from xlsr_live.streaming.requests import CachedFeatures
from xlsr_live.streaming.session.session import Session

from tests.support.driving import Float32
from tests.support.fakes import VOCABULARY, FakeEncoder, LoudVad, sound

LIMIT = 60  # seconds; a test that takes longer has failed


class Held(FakeEncoder):
    """Encodes nothing while it is held."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()

    def encode(self, batch: Sequence[Float32], recalls: Sequence[CachedFeatures | None] = ()) -> list[Float32]:
        assert self.go.wait(LIMIT)
        return super().encode(batch)


def session(engine: Engine, config: SessionConfig | None = None) -> StreamSession:
    """A session with a constant clock, so that equal audio gives equal events."""
    core = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, name="s")
    return StreamSession(core, engine, clock=lambda: 0.0)


def running(scene: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(scene(), LIMIT)

    return asyncio.run(limited())


async def events_of(stream: StreamSession) -> list[Event]:
    return [event async for event in stream]


async def say(stream: StreamSession, audio: Float32, size: int = 1_600) -> list[Event]:
    listening = asyncio.create_task(events_of(stream))
    for at in range(0, len(audio), size):
        await stream.send(audio[at : at + size])
    await stream.end()
    return await listening


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0)


SPEECH = sound("..AB CD " + "." * 10 + "EF GH " + "." * 10)
