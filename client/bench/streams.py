"""Many paced streams of real speech at once, in this process or on a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...streaming.config import AudioFormat
from ...streaming.errors import XlsrLiveError
from ...streaming.frames import SAMPLE_RATE
from ..output.latency import TimedEvents
from ..pump import LiveSession, pump
from ..sources.sources import paced
from .resources import ResourceMeter, ResourceUsage

OpenSession = Callable[[], AbstractAsyncContextManager[LiveSession]]  # a new session of 16 kHz 16-bit mono audio
Int16 = NDArray[np.int16]

PAUSE_DBFS: Final = -60.0  # noise in pauses, as from a microphone
GRACE: Final = 15.0  # seconds for the last events after the audio; a slower trial is overloaded


@dataclass(frozen=True, slots=True)
class Playlist:
    """Recordings that streams repeat endlessly. After each comes a pause in proportion to its length."""

    recordings: Sequence[Int16]  # 16 kHz mono
    silence: float  # share of the pauses, 0..1

    def pieces(self, first: int) -> Iterator[tuple[int, Int16]]:
        """The recordings from number `first` on, endlessly, each with the index of its first sample in the stream."""
        at = 0
        for number in count(first):
            recording = self.recordings[number % len(self.recordings)]
            yield at, recording
            at += len(recording) + self.pause(len(recording))

    def pause(self, samples: int) -> int:
        """Samples of the pause after a recording of `samples`."""
        return round(samples * self.silence / (1 - self.silence))

    def packets(self, first: int, size: int, total: int) -> Iterator[bytes]:
        """At least the first `total` samples of this stream, in 16-bit little-endian packets of `size` samples."""
        left, sent = b"", 0
        for _, recording in self.pieces(first):
            left += np.concatenate((recording, pause_noise(self.pause(len(recording))))).astype("<i2").tobytes()
            while len(left) >= 2 * size:
                if sent >= total:
                    return
                packet, left = left[: 2 * size], left[2 * size :]
                sent += size
                yield packet


def pause_noise(samples: int) -> Int16:
    """Faint noise for a pause; it repeats every second."""
    return np.resize(_one_second(), samples)


@cache
def _one_second() -> Int16:
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE)
    return np.rint(32_768 * 10 ** (PAUSE_DBFS / 20) * noise).astype(np.int16)


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """`streams` streams for `warm_up` seconds and then `seconds` of measured time."""

    streams: int
    seconds: float = 30.0
    warm_up: float = 8.0
    packet_ms: int = 100

    def delay(self, number: int) -> float:
        """Seconds until stream `number` starts."""
        return number / self.streams * self.warm_up / 2

    def samples(self, number: int) -> int:
        """Length of stream `number`."""
        return round((self.warm_up + self.seconds - self.delay(number)) * SAMPLE_RATE)


@dataclass(slots=True)
class Trial:
    """The events of all streams, and the resources used in the measured time `[since, until)` of time.monotonic."""

    plan: TrialPlan
    since: float
    until: float
    streams: list[TimedEvents] = field(default_factory=list[TimedEvents])
    usage: ResourceUsage = field(default_factory=ResourceUsage)
    problem: str | None = None  # why some streams did not complete


async def run_trial(
    plan: TrialPlan,
    playlist: Playlist,
    open_session: OpenSession,
    meter: ResourceMeter,
    tick: Callable[[], None] = lambda: None,
) -> Trial:
    """Run one trial; call `tick` every second.

    Streams start at even intervals in the first half of the warm-up, stream `k` with recording `k`.
    """
    since = time.monotonic() + plan.warm_up
    trial = Trial(plan, since, since + plan.seconds)
    trial.streams = [TimedEvents() for _ in range(plan.streams)]
    measuring = asyncio.create_task(_measure(trial, meter))
    ticking = asyncio.create_task(_every_second(tick))
    try:
        async with asyncio.timeout(plan.warm_up + plan.seconds + GRACE), asyncio.TaskGroup() as group:
            for number, log in enumerate(trial.streams):
                group.create_task(_stream(plan, playlist, open_session, number, log))
    except TimeoutError:
        trial.problem = f"overloaded: unfinished {GRACE:.0f} s after the audio"
    except ExceptionGroup as errors:
        problem = errors.exceptions[0]
        if not isinstance(problem, XlsrLiveError):
            raise
        trial.problem = str(problem)
    finally:
        for task in (measuring, ticking):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    trial.usage = meter.usage()
    return trial


async def _stream(
    plan: TrialPlan, playlist: Playlist, open_session: OpenSession, number: int, log: TimedEvents
) -> None:
    await asyncio.sleep(plan.delay(number))
    size = plan.packet_ms * SAMPLE_RATE // 1000
    total = plan.samples(number)

    async def packets() -> AsyncIterator[bytes]:
        log.begun = time.monotonic()  # `paced` starts its clock just before it requests the first packet
        for packet in playlist.packets(number, size, total):
            yield packet

    async with open_session() as session:
        audio = paced(packets(), AudioFormat(), 1.0)
        await pump(session, audio, lambda event: log.events.append((time.monotonic(), event)), interruptible=False)


async def _measure(trial: Trial, meter: ResourceMeter) -> None:
    await asyncio.sleep(trial.since - time.monotonic())
    meter.start()
    while (left := trial.until - time.monotonic()) > 0:
        await asyncio.sleep(min(1.0, left))
        meter.sample()


async def _every_second(tick: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(1)
        tick()
