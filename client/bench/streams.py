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
from ..pump import Session, pump
from ..sources.sources import paced
from .load import Load, Meter

Opening = Callable[[], AbstractAsyncContextManager[Session]]  # a new session of 16 kHz 16-bit mono audio
Int16 = NDArray[np.int16]

PAUSE_DBFS: Final = -60.0  # of the noise in pauses: no microphone is silent to the last bit
GRACE: Final = 15.0  # seconds for the last events after the audio; a trial that takes longer is overloaded


@dataclass(frozen=True, slots=True)
class Material:
    """Recordings that streams go through round and round, each followed by a pause in proportion to its length."""

    recordings: Sequence[Int16]  # 16 kHz mono
    silence: float  # share of the pauses, 0..1

    def pieces(self, first: int) -> Iterator[tuple[int, Int16]]:
        """Without end, from recording number `first` on: the sample at which each begins in the stream, and it."""
        at = 0
        for number in count(first):
            recording = self.recordings[number % len(self.recordings)]
            yield at, recording
            at += len(recording) + self.pause(len(recording))

    def pause(self, samples: int) -> int:
        """Samples of the pause after a recording of so many."""
        return round(samples * self.silence / (1 - self.silence))

    def packets(self, first: int, size: int, total: int) -> Iterator[bytes]:
        """Packets of `size` samples, 16-bit little-endian, of the first `total` samples of such a stream."""
        left, sent = b"", 0
        for _, recording in self.pieces(first):
            left += np.concatenate((recording, hush(self.pause(len(recording))))).astype("<i2").tobytes()
            while len(left) >= 2 * size:
                if sent >= total:
                    return
                packet, left = left[: 2 * size], left[2 * size :]
                sent += size
                yield packet


def hush(samples: int) -> Int16:
    """So much of a pause: the same second of noise over and over."""
    return np.resize(_second(), samples)


@cache
def _second() -> Int16:
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE)
    return np.rint(32_768 * 10 ** (PAUSE_DBFS / 20) * noise).astype(np.int16)


@dataclass(frozen=True, slots=True)
class Plan:
    """One trial: `streams` streams for `warm_up` and then `seconds` of measured time."""

    streams: int
    seconds: float = 30.0
    warm_up: float = 8.0
    packet_ms: int = 100

    def wait(self, number: int) -> float:
        """Seconds until stream `number` starts."""
        return number / self.streams * self.warm_up / 2

    def samples(self, number: int) -> int:
        """How much audio it sends."""
        return round((self.warm_up + self.seconds - self.wait(number)) * SAMPLE_RATE)


@dataclass(slots=True)
class Trial:
    """What the streams said in the measured time `[since, until)` of time.monotonic, and what it took."""

    plan: Plan
    since: float
    until: float
    streams: list[TimedEvents] = field(default_factory=list[TimedEvents])
    load: Load = field(default_factory=Load)
    problem: str | None = None  # why the streams did not all come to their end


async def run(
    plan: Plan, material: Material, opening: Opening, meter: Meter, tick: Callable[[], None] = lambda: None
) -> Trial:
    """Run one trial. Streams start evenly over the first half of the warm-up, stream `k` with recording `k`; `tick` is
    called every second."""
    since = time.monotonic() + plan.warm_up
    trial = Trial(plan, since, since + plan.seconds)
    trial.streams = [TimedEvents() for _ in range(plan.streams)]
    watch = asyncio.create_task(_watch(trial, meter))
    ticking = asyncio.create_task(_every_second(tick))
    try:
        async with asyncio.timeout(plan.warm_up + plan.seconds + GRACE), asyncio.TaskGroup() as group:
            for number, heard in enumerate(trial.streams):
                group.create_task(_stream(plan, material, opening, number, heard))
    except TimeoutError:
        trial.problem = f"overloaded: not through {GRACE:.0f} s after the audio"
    except ExceptionGroup as errors:
        problem = errors.exceptions[0]
        if not isinstance(problem, XlsrLiveError):
            raise
        trial.problem = str(problem)
    finally:
        for task in (watch, ticking):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    trial.load = meter.load()
    return trial


async def _stream(plan: Plan, material: Material, opening: Opening, number: int, heard: TimedEvents) -> None:
    await asyncio.sleep(plan.wait(number))
    size = plan.packet_ms * SAMPLE_RATE // 1000
    total = plan.samples(number)

    async def packets() -> AsyncIterator[bytes]:
        heard.begun = time.monotonic()  # `paced` counts from the moment before it asks for the first one
        for packet in material.packets(number, size, total):
            yield packet

    async with opening() as session:
        audio = paced(packets(), AudioFormat(), 1.0)
        await pump(session, audio, lambda event: heard.events.append((time.monotonic(), event)), interruptible=False)


async def _watch(trial: Trial, meter: Meter) -> None:
    await asyncio.sleep(trial.since - time.monotonic())
    meter.begin()
    while (left := trial.until - time.monotonic()) > 0:
        await asyncio.sleep(min(1.0, left))
        meter.look()


async def _every_second(tick: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(1)
        tick()
