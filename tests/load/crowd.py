"""The clients of one process of the load generator: paced sessions, each compared with the same audio alone."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from multiprocessing.synchronize import Barrier
from typing import Any, Final

from xlsr_live.client.output.latency import Latencies, TimedEvents, latencies, percentiles
from xlsr_live.client.pump import pump
from xlsr_live.client.remote.websocket import connect
from xlsr_live.client.sources.sources import paced
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.errors import XlsrLiveError
from xlsr_live.streaming.frames import SAMPLE_RATE
from xlsr_live.streaming.protocol import events as ev

from tests.load.kills import compared
from tests.load.load_clients import DEFAULT_RETRY_S, Refusal, refusal_of

ENDING_S: Final = 60.0  # for the last session of a client, beyond its audio; then it counts as broken
FLAWS: Final = ("lost", "doubled", "misnumbered")  # of finals


@dataclass(frozen=True)
class CrowdPlan:
    """What all processes do: `clients` clients begin within `ramp` seconds, and start sessions until `ramp + seconds`
    have passed.
    """

    urls: Sequence[str]
    token: str | None
    config: SessionConfig
    scripts: Sequence[Sequence[bytes]]  # packets of each session
    baselines: Sequence[Sequence[ev.Final]]  # finals of each script alone
    clients: int
    processes: int
    ramp: float
    seconds: float
    packet_s: float
    seed: int


@dataclass
class CrowdResult:
    """Totals over clients. Latencies are those of `seconds` after the ramp."""

    attempts: int = 0  # each is completed, refused or broken
    started: int = 0
    completed: int = 0
    moved: int = 0
    resumed: int = 0
    audio_s: float = 0.0  # sent after the ramp
    sent_bytes: int = 0  # of all messages with audio
    received_bytes: int = 0  # of all events, as JSON
    cpu_s: float = 0.0  # of this process, after the ramp
    events: Counter[str] = field(default_factory=Counter[str])  # by type
    finals: Counter[str] = field(default_factory=Counter[str])  # see `compared`
    refusals: Counter[Refusal] = field(default_factory=Counter[Refusal])
    broken: Counter[str] = field(default_factory=Counter[str])  # why sessions did not complete
    late: list[float] = field(default_factory=list[float])  # seconds that packets were sent too late
    gaps: list[float] = field(default_factory=list[float])  # seconds without text, of moves in mid-utterance
    level: int = 0  # the highest
    latencies: Latencies = field(default_factory=Latencies)

    def add(self, other: CrowdResult) -> None:
        for name in (each.name for each in fields(self)):
            if name == "latencies":
                self.latencies.extend(other.latencies)
            elif name == "level":
                self.level = max(self.level, other.level)
            else:
                setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def problems(self) -> list[str]:
        """What a correct server and network never cause."""
        silent = [each for each in self.refusals if each.status != 1013 and each.retry_after is None]
        found = [f"{count} sessions broke: {reason}" for reason, count in self.broken.items()]
        found += [f"{self.finals[name]} finals {name}" for name in FLAWS if self.finals[name]]
        return found + [f"a refusal without Retry-After: {each.code} ({each.status})" for each in silent]

    def report(self) -> dict[str, Any]:
        """All results, for JSON."""
        return {
            "sessions": {
                "attempts": self.attempts,
                "started": self.started,
                "completed": self.completed,
                "broken": self.broken.total(),
            },
            "moved": self.moved,
            "moved_without_text_s": percentiles(self.gaps),
            "resumed": self.resumed,
            "level": self.level,
            "refusals": [{**each._asdict(), "count": count} for each, count in sorted(self.refusals.items(), key=str)],
            "finals": dict(self.finals),
            "events": dict(self.events),
            "audio_s": self.audio_s,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "client_cpu_s": self.cpu_s,
            "packets_late_s": percentiles(self.late),
            "seconds": self.latencies.report(),
            "problems": self.problems,
        }


class Crowd:
    """The clients of process number `process`. `run` ends by itself."""

    def __init__(self, plan: CrowdPlan, process: int) -> None:
        self._plan = plan
        self._numbers = range(process, plan.clients, plan.processes)
        self._rng = random.Random(f"{plan.seed} {process}")
        self._result = CrowdResult()

    async def run(self) -> CrowdResult:
        self._begun = time.monotonic()
        self._since = self._begun + self._plan.ramp
        self._until = self._since + self._plan.seconds
        measuring = asyncio.create_task(self._measure())
        await asyncio.gather(*(self._client(number) for number in self._numbers))
        await measuring
        return self._result

    async def _measure(self) -> None:
        await asyncio.sleep(self._since - time.monotonic())
        before = time.process_time()
        await asyncio.sleep(self._until - time.monotonic())
        self._result.cpu_s = time.process_time() - before

    async def _client(self, number: int) -> None:
        await asyncio.sleep(number / self._plan.clients * self._plan.ramp)
        while time.monotonic() < self._until:
            self._result.attempts += 1
            try:
                await self._session(number)
            except (XlsrLiveError, TimeoutError) as problem:
                refusal = refusal_of(problem) if isinstance(problem, XlsrLiveError) else None
                if refusal is None:
                    self._result.broken[str(problem) or "unfinished long after its audio"] += 1
                else:
                    self._result.refusals[refusal] += 1
                wait = (refusal and refusal.retry_after) or DEFAULT_RETRY_S
                await asyncio.sleep(min(wait * self._rng.uniform(1, 1.5), max(0.0, self._until - time.monotonic())))

    async def _session(self, number: int) -> None:
        plan, result, log = self._plan, self._result, TimedEvents()
        script, first = number % len(plan.scripts), number % len(plan.urls)
        packets = plan.scripts[script]

        async def send() -> AsyncIterator[bytes]:
            log.begun = time.monotonic()
            for place, packet in enumerate(packets):
                if self._since <= (now := time.monotonic()) < self._until:
                    result.late += [now - log.begun - place * plan.packet_s] if place else []
                    result.audio_s += len(packet) / 2 / SAMPLE_RATE
                result.sent_bytes += len(packet)
                yield packet

        def on_event(event: ev.Event) -> None:
            if isinstance(event, ev.SessionStarted):
                result.started += 1
            log.events.append((time.monotonic(), event))

        async with asyncio.timeout(len(packets) * plan.packet_s + ENDING_S):
            urls = [*plan.urls[first:], *plan.urls[:first]]
            async with connect(urls, config=plan.config, token=plan.token) as stream:
                await pump(stream, paced(send(), AudioFormat(), 1.0), on_event, interruptible=False)
                result.moved += stream.moved
                result.resumed += stream.resumed
        self._completed(log, script)

    def _completed(self, log: TimedEvents, script: int) -> None:
        result, received = self._result, [event for _, event in log.events]
        result.completed += 1
        result.events.update(str(event.__struct_config__.tag) for event in received)
        result.received_bytes += sum(len(ev.to_json(event)) for event in received)
        result.finals += compared(
            [event for event in received if isinstance(event, ev.Final)], self._plan.baselines[script]
        )
        result.latencies.extend(latencies(log, since=self._since, until=self._until))
        result.gaps += gaps(log)
        result.level = max(result.level, *(event.level for event in received))


def gaps(log: TimedEvents) -> list[float]:
    """Seconds from the last event before each move in mid-utterance to the next text."""
    found: list[float] = []
    last, speaking, moving = 0.0, False, False
    for at, event in log.events:
        if isinstance(event, ev.SessionMoved):
            moving = speaking
        elif moving and isinstance(event, ev.Partial | ev.Final):
            found.append(at - last)
            moving = False
        if isinstance(event, ev.Partial | ev.SpeechEnded):
            speaking = isinstance(event, ev.Partial)
        if not moving:
            last = at
    return found


_worker: dict[str, Barrier] = {}


def prepare(barrier: Barrier) -> None:
    """Initialize a process: all begin together, when the last one has been started."""
    _worker["barrier"] = barrier


def run_crowd(plan: CrowdPlan, process: int) -> CrowdResult:
    """The work of one process."""
    _worker["barrier"].wait()
    return asyncio.run(Crowd(plan, process).run())


async def baseline(server: Mapping[str, Any], script: Sequence[bytes]) -> list[ev.Final]:
    """The finals of a script alone, as fast as the server goes. `server`: arguments of `connect`.

    Raises `XlsrLiveError`.
    """
    finals: list[ev.Final] = []

    async def packets() -> AsyncIterator[bytes]:
        for packet in script:
            yield packet

    def collect(event: ev.Event) -> None:
        if isinstance(event, ev.Final):
            finals.append(event)

    async with connect(**server) as stream:
        await pump(stream, paced(packets(), AudioFormat(), 0.0), collect, interruptible=False)
    return finals
