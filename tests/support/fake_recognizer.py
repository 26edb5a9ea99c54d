"""A recognizer whose faults a test chooses. It has the calls that the server makes, without audio or model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
from xlsr_live.streaming.captions.punctuation import punctuate_pauses
from xlsr_live.streaming.engine.counters import EngineCounters
from xlsr_live.streaming.overload import Level
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, SessionMoved, SessionStarted

Trouble = Literal["none", "deaf", "stuck", "broken", "endless"]


class Info(msgspec.Struct, frozen=True):
    name: str = "fake"
    device: str = "cpu"
    dtype: str = "float32"


@dataclass
class FakeEngine:
    alive: bool = True
    healthy: bool = True
    queued: int = 0
    level: Level = Level.NORMAL
    working_s: float = 0.0
    searching_s: float = 0.0
    counters: EngineCounters = field(default_factory=EngineCounters)

    def replace_stuck_worker(self, patience_s: float) -> bool:
        return False

    def submit(self, samples: Any, *, deadline: float, language: str | None = None) -> Future[Any]:
        return Future()


@dataclass
class FakeRecognizer:
    trouble: Trouble = "none"
    info: Info = field(default_factory=Info)
    engine: FakeEngine = field(default_factory=FakeEngine)
    opened: list[FakeSession] = field(default_factory=list)

    translation = None
    translates_to = ()
    languages = SimpleNamespace(known=(), identifies=False)
    spoken_language = None
    punctuate = staticmethod(punctuate_pauses)
    room = None

    def session(
        self,
        config: Any = None,
        audio: Any = None,
        *,
        name: str | None = None,
        complete_translations: bool = False,
        origin: Any = None,
    ) -> FakeSession:
        self.opened.append(FakeSession(name or "", self.trouble, moved=origin is not None))
        return self.opened[-1]

    async def prepare(self, config: Any) -> None:
        pass

    def close(self, timeout: float | None = None) -> None:
        self.engine.alive = False


class FakeSession:
    coalesced = dropped = unfinished = safe = 0

    def __init__(self, name: str, trouble: Trouble, *, moved: bool = False) -> None:
        self.name = name
        self._opening = SessionMoved if moved else SessionStarted
        self.closed = False
        self._trouble = trouble
        self._received = 0
        self._ended = asyncio.Event()

    async def send(self, audio: bytes) -> None:
        if self._trouble == "deaf":  # the backlog never empties
            await asyncio.Event().wait()
        if self._trouble == "broken":
            raise RuntimeError("an inner secret")
        self._received += len(audio)

    async def flush(self) -> None:
        pass

    async def end(self) -> None:
        if self._trouble != "stuck":
            self._ended.set()

    async def aclose(self) -> None:
        self.closed = True

    async def __aiter__(self) -> AsyncIterator[Event]:
        yield self._opening(session=self.name, model="fake", mode="window")
        while self._trouble == "endless":
            yield Final(utterance=0, text="A" * 1_000, words=(), start=0.0, end=1.0, confidence=1.0)
            await asyncio.sleep(0)
        await self._ended.wait()
        yield Final(utterance=0, text=str(self._received), words=(), start=0.0, end=1.0, confidence=1.0)
        yield SessionEnded(audio_s=0.0, utterances=1)
