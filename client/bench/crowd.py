"""More clients than a server lets in: each comes, speaks in real time and comes again, or is refused and waits."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import msgspec
import numpy as np

from ...streaming.config import AudioFormat
from ...streaming.errors import XlsrLiveError
from ...streaming.frames import SAMPLE_RATE
from ...streaming.protocol import events
from ..errors import ConnectionProblem
from ..options.server import read_token
from ..options.session import session_config
from ..output.latency import percentiles
from ..output.progress import progress
from ..pump import pump
from ..remote.connection import OPEN_TIMEOUT
from ..remote.pcm import encode
from ..remote.websocket import connect
from ..sources.sources import paced
from . import corpus
from .streams import Material, Opening
from .tables import Table

SCRIPTS: Final = 16  # different streams: each is heard alone first
PACKET: Final = SAMPLE_RATE // 10
UNSAID_S: Final = 5.0  # until who was not told when to come again comes
TRY_LATER: Final = ("server_full", "client_full", "overloaded")  # errors after the upgrade, with close code 1013

Script = Sequence[bytes]  # packets


class Refusal(NamedTuple):
    code: str  # as the server says it
    status: int  # HTTP; 1013 after the upgrade
    retry_after: int | None  # seconds


@dataclass(slots=True)
class Minute:
    final_lags: list[float] = field(default_factory=list[float])  # seconds from the arrival of the last audio
    partial_lags: list[float] = field(default_factory=list[float])
    level: int = 0  # the highest
    begun: int = 0  # sessions that then came to their end
    refused: int = 0
    open_s: float = 0.0  # of all these sessions


@dataclass(slots=True)
class Told:
    """What happened to everybody."""

    clients: int
    limit: int  # sessions that the server may have
    minutes: dict[int, Minute] = field(default_factory=dict[int, Minute])
    refusals: Counter[Refusal] = field(default_factory=Counter[Refusal])
    broken: list[str] = field(default_factory=list[str])  # why sessions did not come to their end
    equal: int = 0  # finals: words, times and confidences
    total: int = 0

    def minute(self, seconds: float) -> Minute:
        return self.minutes.setdefault(int(seconds // 60), Minute())

    def report(self) -> dict[str, Any]:
        return {
            "clients": self.clients,
            "limit": self.limit,
            "refusals": [{**refusal._asdict(), "count": count} for refusal, count in self.refusals.items()],
            "broken": self.broken,
            "finals_as_alone": [self.equal, self.total],
            "minutes": [
                {
                    "final_lag": percentiles(one.final_lags),
                    "partial_lag": percentiles(one.partial_lags),
                    "level": one.level,
                    "begun": one.begun,
                    "refused": one.refused,
                    "open": one.open_s / 60,
                }
                for _, one in sorted(self.minutes.items())
            ],
        }


class Crowd:
    """`clients` at a server that may have `limit` sessions; `opening` makes one there."""

    def __init__(self, scripts: Sequence[Script], opening: Opening, *, clients: int, limit: int) -> None:
        self._scripts = scripts
        self._opening = opening
        self._told = Told(clients, limit)
        self._alone: list[list[events.Final]] = []  # of each script
        self._begun = 0.0

    def come(self, seconds: float) -> Told:
        """Everybody, for so long, after one client alone. Raises `XlsrLiveError` if that one is not served."""
        asyncio.run(self._come(seconds))
        return self._told

    async def _come(self, seconds: float) -> None:
        with progress(len(self._scripts)) as (advance, _):
            for script in self._scripts:
                heard: list[events.Event] = []
                await self._speak(script, 0.0, heard.append)
                self._alone.append(_finals(heard))
                advance()
        self._begun = time.monotonic()
        with progress(round(seconds)) as (advance, _):
            async with asyncio.TaskGroup() as group:
                for number in range(self._told.clients):
                    group.create_task(self._client(number, seconds))
                for _ in range(round(seconds)):
                    await asyncio.sleep(1)
                    advance()

    @property
    def _now(self) -> float:
        return time.monotonic() - self._begun

    async def _client(self, number: int, seconds: float) -> None:
        await asyncio.sleep(random.uniform(0, 1))
        while (came := self._now) < seconds:
            try:
                await self._session(number % len(self._scripts))
            except XlsrLiveError as problem:
                if (refusal := _refusal(problem)) is None:
                    self._told.broken.append(str(problem))
                else:
                    self._told.refusals[refusal] += 1
                    self._told.minute(came).refused += 1
                wait = (refusal and refusal.retry_after) or UNSAID_S
                await asyncio.sleep(wait * random.uniform(1, 1.5))

    async def _session(self, script: int) -> None:
        came = self._now
        heard: list[events.Event] = []

        def hear(event: events.Event) -> None:
            heard.append(event)
            self._note(event)

        await self._speak(self._scripts[script], 1.0, hear)
        left = self._now
        self._told.minute(came).begun += 1
        for at in range(int(came // 60), int(left // 60) + 1):
            self._told.minute(60 * at).open_s += min(left, 60 * (at + 1)) - max(came, 60 * at)
        said, expected = _finals(heard), self._alone[script]
        self._told.equal += sum(one == other for one, other in zip(said, expected, strict=False))
        self._told.total += max(len(said), len(expected))

    def _note(self, event: events.Event) -> None:
        minute = self._told.minute(self._now)
        minute.level = max(minute.level, event.level)
        if isinstance(event, events.Final):
            minute.final_lags.append(event.lag_ms / 1000)
        elif isinstance(event, events.Partial):
            minute.partial_lags.append(event.lag_ms / 1000)

    async def _speak(self, script: Script, pace: float, hear: Callable[[events.Event], None]) -> None:
        async def packets() -> AsyncIterator[bytes]:
            for packet in script:
                yield packet

        async with self._opening() as session:
            await pump(session, paced(packets(), AudioFormat(), pace), hear, interruptible=False)


def _finals(heard: Iterable[events.Event]) -> list[events.Final]:
    return [event for event in heard if isinstance(event, events.Final)]


def _refusal(problem: XlsrLiveError) -> Refusal | None:
    """How the server said that it is too busy; None if it said something else."""
    if isinstance(problem, ConnectionProblem) and problem.status in (429, 503):
        return Refusal(problem.code, problem.status, problem.retry_after)
    return Refusal(problem.code, 1013, None) if problem.code in TRY_LATER else None


def gather(
    url: str, times: float, session_s: float, silence: float, options: dict[str, Any]
) -> tuple[Crowd, dict[str, Any]]:
    """The crowd that a command's options describe, and what its report says of it. Raises `XlsrLiveError`."""
    config, token = session_config(options), read_token(options["token_file"])
    limit = sessions_limit(url)
    found = corpus.spoken(corpus.read_corpus(options["data"], where=options["where"], limit=options["limit"]))
    chosen = [found[place * len(found) // SCRIPTS] for place in range(SCRIPTS)] if len(found) > SCRIPTS else found
    samples = [np.frombuffer(encode(corpus.read_samples(one), "pcm_s16le"), np.int16) for one in chosen]
    material, total = Material(samples, silence), round(session_s * SAMPLE_RATE)
    scripts = [list(material.packets(number, PACKET, total)) for number in range(len(samples))]
    crowd = Crowd(
        scripts, partial(connect, url, config=config, token=token), clients=max(1, round(times * limit)), limit=limit
    )
    settings = {"data": str(options["data"] or "packaged clips"), "url": url, "times": times, "session_s": session_s}
    return crowd, settings | {"silence": silence, "config": msgspec.to_builtins(config)}


def sessions_limit(url: str) -> int:
    """How many sessions the server may have, as its `/readyz` says. Raises `ConnectionProblem`."""
    parts = urlsplit(url)
    ready = f"{parts.scheme.replace('ws', 'http', 1)}://{parts.netloc}/readyz"
    try:
        try:
            answer = urlopen(ready, timeout=OPEN_TIMEOUT)
        except HTTPError as error:  # 503: not ready, and it says so in the same way
            answer = error
        with answer:
            return int(msgspec.json.decode(answer.read(1 << 16), type=dict[str, Any])["limit"])
    except (OSError, ValueError, KeyError, msgspec.DecodeError) as error:
        raise ConnectionProblem(f"{ready} does not say how many sessions the server may have ({error})") from None


def by_minute(told: Told) -> Table:
    rows = [
        [
            str(at + 1),
            f"{one.open_s / 60:.1f}",
            str(one.begun),
            str(one.refused),
            str(one.level),
            *_cells(one.final_lags),
            *_cells(one.partial_lags),
        ]
        for at, one in sorted(told.minutes.items())
    ]
    columns = ["minute", "sessions open", "begun", "refused", "level", "final lag p50", "p95", "most"]
    title = f"{told.clients} clients at a server for {told.limit} (lags in seconds)"
    return Table(title, [*columns, "partial lag p50", "p95", "most"], rows)


def refusals(told: Told) -> Table:
    rows = [
        [each.code, str(each.status), "" if each.retry_after is None else f"{each.retry_after} s", str(count)]
        for each, count in sorted(told.refusals.items(), key=str)
    ]
    return Table("Refusals", ["reason", "status", "Retry-After", "count"], rows)


def _cells(values: Sequence[float]) -> list[str]:
    found = percentiles(values)
    return [f"{found[name]:.2f}" if name in found else "" for name in ("p50", "p95", "max")]
