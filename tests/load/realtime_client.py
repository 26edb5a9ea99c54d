"""One client in real time for a whole soak: a single session, the same recordings in rounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Final as Constant

import numpy as np
from xlsr_live.client.bench.streams import Int16, Playlist, pause_noise
from xlsr_live.client.pump import pump
from xlsr_live.client.remote.websocket import connect
from xlsr_live.client.sources.sources import paced
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.frames import SAMPLE_RATE
from xlsr_live.streaming.protocol.events import Event, Final, Partial

from tests.load.ledger import EventCounter, Ledger

SPEECH_S: Constant = 15.0  # of a round, at most; one recording may be longer
PACKET: Constant = 2 * SAMPLE_RATE // 10  # bytes

Lag = tuple[float, float]  # progress of the soak, 0..1; seconds


@dataclass
class RealtimeClient:
    """`run` it during the soak; afterwards `repeat` sends the same audio to the idle server."""

    url: str
    playlist: Playlist
    ledger: Ledger
    partial_lags: list[Lag] = field(default_factory=list[Lag])
    final_lags: list[Lag] = field(default_factory=list[Lag])
    finals: list[Final] = field(default_factory=list[Final])
    sent: int = 0  # packets

    def __post_init__(self) -> None:
        chosen: list[Int16] = []
        for recording in sorted(self.playlist.recordings, key=len):
            if not chosen or sum(map(len, chosen)) + len(recording) <= SPEECH_S * SAMPLE_RATE:
                chosen.append(recording)
        parts = [part for each in chosen for part in (each, pause_noise(self.playlist.pause(len(each))))]
        self._round = np.concatenate([*parts, pause_noise(SAMPLE_RATE)]).astype("<i2").tobytes()

    @property
    def rounds(self) -> float:
        return self.sent * PACKET / len(self._round)

    async def run(self, done: Callable[[], float]) -> None:
        """Send audio in real time until `done()` is 1. Raises `XlsrLiveError`."""

        async def packets() -> AsyncIterator[bytes]:
            for packet in self._packets():
                if done() >= 1:
                    break
                self.sent += 1
                yield packet

        def on_event(event: Event) -> None:
            match event:
                case Partial(lag_ms=lag):
                    self.partial_lags.append((done(), lag / 1000))
                case Final(lag_ms=lag):
                    self.final_lags.append((done(), lag / 1000))
                    self.finals.append(event)
                case _:
                    pass

        await self._send(packets(), 1.0, on_event)

    async def repeat(self) -> list[str]:
        """Send the same samples at full speed and describe the finals that differ. Raises `XlsrLiveError`."""
        finals: list[Final] = []

        async def packets() -> AsyncIterator[bytes]:
            for packet in islice(self._packets(), self.sent):
                yield packet

        def on_event(event: Event) -> None:
            if isinstance(event, Final):
                finals.append(event)

        await self._send(packets(), 0.0, on_event)
        return differences(self.finals, finals)

    def _packets(self) -> Iterator[bytes]:
        """Endless; the last packet of a round continues with the start of the next round."""
        at = 0
        while True:
            rest = self._round[at : at + PACKET]
            yield rest + self._round[: PACKET - len(rest)]
            at = (at + PACKET) % len(self._round)

    async def _send(self, packets: AsyncIterator[bytes], pace: float, on_event: Callable[[Event], None]) -> None:
        counter = EventCounter(self.ledger)

        def count_and_pass_on(event: Event) -> None:
            counter.count(event)
            on_event(event)

        async with connect(self.url) as stream:
            await pump(stream, paced(packets, AudioFormat(), pace), count_and_pass_on, interruptible=False)


def differences(busy: Sequence[Final], idle: Sequence[Final]) -> list[str]:
    """Finals whose words, times or confidences are not the same."""
    return [
        f"{_text(one)} on the busy server, {_text(other)} from the same samples on the idle one"
        for one, other in zip_longest(busy, idle)
        if one != other
    ]


def _text(final: Final | None) -> str:
    if final is None:
        return "nothing"
    return " ".join(f"{word.word}@{word.start:.3f} ({word.confidence})" for word in final.words)
