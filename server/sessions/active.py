"""The recognizer session that a connection has open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...streaming.config import SAMPLE_BYTES, AudioFormat
from ...streaming.live import StreamSession
from .admission import Lease


async def send_charged(
    session: StreamSession, audio: bytes | NDArray[np.floating], form: AudioFormat, lease: Lease
) -> None:
    """Pass audio on, and count it. Waits while the backlog is full or the client's allowance is used up."""
    size, seconds = size_of(audio, form)
    await lease.charge(seconds)  # first: a client that leaves while the session waits has to pay, too
    await session.send(audio)
    lease.count(size, seconds)


def size_of(audio: bytes | NDArray[np.floating], form: AudioFormat) -> tuple[int, float]:
    """Bytes and seconds of a packet."""
    if not isinstance(audio, bytes):
        return audio.nbytes, len(audio) / form.sample_rate
    samples = len(audio) / (SAMPLE_BYTES[form.encoding] * form.channels)
    return len(audio), samples / form.sample_rate


@dataclass
class ActiveSession:
    """A session and the task that pumps its events to the dialect."""

    session: StreamSession
    audio: AudioFormat
    pump: asyncio.Task[None]
    lease: Lease

    @property
    def unfinished(self) -> int:
        """Accepted samples that a release now would lose."""
        return self.session.unfinished

    async def send(self, audio: bytes | NDArray[np.floating]) -> None:
        """See `send_charged`."""
        await send_charged(self.session, audio, self.audio, self.lease)

    async def pumped(self) -> None:
        """Wait until the dialect has handled all events of an ended or closed session, then release it."""
        await asyncio.wait([self.pump])  # unlike awaiting the pump itself, this can be cancelled without cancelling it
        await self.release()

    async def release(self) -> None:
        """Close the session, finished or not, and add its counters to those of the server."""
        await self.session.aclose()
        self.lease.stats.coalesced += self.session.coalesced
        self.lease.stats.dropped += self.session.dropped
