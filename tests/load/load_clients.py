"""More clients than a server admits: each streams in real time and returns, or is refused and waits."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from xlsr_live.client.bench.streams import OpenSession
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.output.latency import percentiles
from xlsr_live.client.output.progress import progress
from xlsr_live.client.pump import pump
from xlsr_live.client.sources.sources import paced
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.errors import XlsrLiveError
from xlsr_live.streaming.protocol import events

DEFAULT_RETRY_S: Final = 5.0  # after a refusal without Retry-After
TRY_LATER: Final = ("server_full", "client_full", "overloaded")  # errors after the upgrade, with close code 1013

Script = Sequence[bytes]  # packets


class Refusal(NamedTuple):
    code: str  # the server's
    status: int  # HTTP; 1013 after the upgrade
    retry_after: int | None  # seconds


@dataclass(slots=True)
class MinuteStats:
    final_lags: list[float] = field(default_factory=list[float])  # seconds from the arrival of the last audio
    partial_lags: list[float] = field(default_factory=list[float])
    level: int = 0  # the highest
    started: int = 0  # sessions that started in this minute and completed
    refused: int = 0
    open_s: float = 0.0  # of all completed sessions


@dataclass(slots=True)
class OverloadResult:
    """Totals over all clients."""

    clients: int
    limit: int  # sessions that the server admits
    minutes: dict[int, MinuteStats] = field(default_factory=dict[int, MinuteStats])
    refusals: Counter[Refusal] = field(default_factory=Counter[Refusal])
    broken: list[str] = field(default_factory=list[str])  # why sessions did not complete
    equal: int = 0  # finals with the words, times and confidences of the baseline
    total: int = 0

    def minute(self, seconds: float) -> MinuteStats:
        return self.minutes.setdefault(int(seconds // 60), MinuteStats())

    def report(self) -> dict[str, Any]:
        return {
            "clients": self.clients,
            "limit": self.limit,
            "refusals": [{**refusal._asdict(), "count": count} for refusal, count in self.refusals.items()],
            "broken": self.broken,
            "finals_as_alone": [self.equal, self.total],
            "minutes": [
                {
                    "final_lag": percentiles(minute.final_lags),
                    "partial_lag": percentiles(minute.partial_lags),
                    "level": minute.level,
                    "started": minute.started,
                    "refused": minute.refused,
                    "open": minute.open_s / 60,
                }
                for _, minute in sorted(self.minutes.items())
            ],
        }


class LoadClients:
    """`clients` clients of a server that admits `limit` sessions; `open_session` starts one there."""

    def __init__(self, scripts: Sequence[Script], open_session: OpenSession, *, clients: int, limit: int) -> None:
        self._scripts = scripts
        self._open_session = open_session
        self._result = OverloadResult(clients, limit)
        self._baselines: list[list[events.Final]] = []  # of each script, from the idle server
        self._started = 0.0

    def run(self, seconds: float) -> OverloadResult:
        """Record the baseline of each script, then run all clients. Raises `XlsrLiveError` if a baseline fails."""
        asyncio.run(self._run(seconds))
        return self._result

    async def _run(self, seconds: float) -> None:
        with progress(len(self._scripts)) as (advance, _):
            for script in self._scripts:
                received: list[events.Event] = []
                await self._stream(script, 0.0, received.append)
                self._baselines.append(_finals(received))
                advance()
        self._started = time.monotonic()
        with progress(round(seconds)) as (advance, _):
            async with asyncio.TaskGroup() as group:
                for number in range(self._result.clients):
                    group.create_task(self._client(number, seconds))
                for _ in range(round(seconds)):
                    await asyncio.sleep(1)
                    advance()

    @property
    def _now(self) -> float:
        return time.monotonic() - self._started

    async def _client(self, number: int, seconds: float) -> None:
        await asyncio.sleep(random.uniform(0, 1))
        while (start := self._now) < seconds:
            try:
                await self._session(number % len(self._scripts))
            except XlsrLiveError as problem:
                if (refusal := refusal_of(problem)) is None:
                    self._result.broken.append(str(problem))
                else:
                    self._result.refusals[refusal] += 1
                    self._result.minute(start).refused += 1
                wait = (refusal and refusal.retry_after) or DEFAULT_RETRY_S
                await asyncio.sleep(wait * random.uniform(1, 1.5))

    async def _session(self, script: int) -> None:
        start = self._now
        received: list[events.Event] = []

        def on_event(event: events.Event) -> None:
            received.append(event)
            self._record(event)

        await self._stream(self._scripts[script], 1.0, on_event)
        ended = self._now
        self._result.minute(start).started += 1
        for at in range(int(start // 60), int(ended // 60) + 1):
            self._result.minute(60 * at).open_s += min(ended, 60 * (at + 1)) - max(start, 60 * at)
        finals, baseline = _finals(received), self._baselines[script]
        self._result.equal += sum(one == other for one, other in zip(finals, baseline, strict=False))
        self._result.total += max(len(finals), len(baseline))

    def _record(self, event: events.Event) -> None:
        minute = self._result.minute(self._now)
        minute.level = max(minute.level, event.level)
        if isinstance(event, events.Final):
            minute.final_lags.append(event.lag_ms / 1000)
        elif isinstance(event, events.Partial):
            minute.partial_lags.append(event.lag_ms / 1000)

    async def _stream(self, script: Script, pace: float, on_event: Callable[[events.Event], None]) -> None:
        async def packets() -> AsyncIterator[bytes]:
            for packet in script:
                yield packet

        async with self._open_session() as session:
            await pump(session, paced(packets(), AudioFormat(), pace), on_event, interruptible=False)


def _finals(received: Iterable[events.Event]) -> list[events.Final]:
    return [event for event in received if isinstance(event, events.Final)]


def refusal_of(problem: XlsrLiveError) -> Refusal | None:
    """The refusal of a busy server; None for any other problem."""
    if isinstance(problem, ConnectionProblem) and problem.status in (429, 503):
        return Refusal(problem.code, problem.status, problem.retry_after)
    return Refusal(problem.code, 1013, None) if problem.code in TRY_LATER else None
