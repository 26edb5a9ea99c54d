"""One listener who stays: real time, one session, the same recordings round and round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Final as Constant

import numpy as np

from ...streaming.config import AudioFormat
from ...streaming.frames import SAMPLE_RATE
from ...streaming.protocol.events import Event, Final, Partial
from ..pump import pump
from ..remote.websocket import connect
from ..sources.sources import paced
from .account import Account, Ear
from .streams import Int16, Material, hush

SPEECH_S: Constant = 15.0  # in a round, at most, unless one recording is longer
PACKET: Constant = 2 * SAMPLE_RATE // 10  # bytes

Lag = tuple[float, float]  # how much of the soak is done, 0..1; seconds


@dataclass
class Steady:
    """`run` it; then look at what it heard, and let the server hear the same `again`."""

    url: str
    material: Material
    account: Account
    partial_lags: list[Lag] = field(default_factory=list[Lag])
    final_lags: list[Lag] = field(default_factory=list[Lag])
    finals: list[Final] = field(default_factory=list[Final])
    sent: int = 0  # packets

    def __post_init__(self) -> None:
        chosen: list[Int16] = []
        for recording in sorted(self.material.recordings, key=len):
            if not chosen or sum(map(len, chosen)) + len(recording) <= SPEECH_S * SAMPLE_RATE:
                chosen.append(recording)
        parts = [part for each in chosen for part in (each, hush(self.material.pause(len(each))))]
        self._round = np.concatenate([*parts, hush(SAMPLE_RATE)]).astype("<i2").tobytes()

    @property
    def rounds(self) -> float:
        return self.sent * PACKET / len(self._round)

    async def run(self, done: Callable[[], float]) -> None:
        """Speak until `done` is 1. Raises `XlsrLiveError`."""

        async def packets() -> AsyncIterator[bytes]:
            for packet in self._packets():
                if done() >= 1:
                    break
                self.sent += 1
                yield packet

        def hear(event: Event) -> None:
            match event:
                case Partial(lag_ms=lag):
                    self.partial_lags.append((done(), lag / 1000))
                case Final(lag_ms=lag):
                    self.final_lags.append((done(), lag / 1000))
                    self.finals.append(event)
                case _:
                    pass

        await self._speak(packets(), 1.0, hear)

    async def again(self) -> list[str]:
        """Send the same samples as fast as they are taken, and tell which finals differ. Raises `XlsrLiveError`."""
        finals: list[Final] = []

        async def packets() -> AsyncIterator[bytes]:
            for packet in islice(self._packets(), self.sent):
                yield packet

        def hear(event: Event) -> None:
            if isinstance(event, Final):
                finals.append(event)

        await self._speak(packets(), 0.0, hear)
        return differences(self.finals, finals)

    def _packets(self) -> Iterator[bytes]:
        """Without an end; the last of a round goes on into the next."""
        at = 0
        while True:
            rest = self._round[at : at + PACKET]
            yield rest + self._round[: PACKET - len(rest)]
            at = (at + PACKET) % len(self._round)

    async def _speak(self, packets: AsyncIterator[bytes], pace: float, hear: Callable[[Event], None]) -> None:
        ear = Ear(self.account)

        def heard(event: Event) -> None:
            ear.hear(event)
            hear(event)

        async with connect(self.url) as stream:
            await pump(stream, paced(packets, AudioFormat(), pace), heard, interruptible=False)


def differences(live: Sequence[Final], again: Sequence[Final]) -> list[str]:
    """What is not the same: words, times and confidences."""
    return [
        f"{_text(one)} while others were heard, {_text(other)} of the same samples afterwards"
        for one, other in zip_longest(live, again)
        if one != other
    ]


def _text(final: Final | None) -> str:
    if final is None:
        return "nothing"
    return " ".join(f"{word.word}@{word.start:.3f} ({word.confidence})" for word in final.words)
