"""One listener who stays: real time, one session, the same recordings round and round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final as Constant

import numpy as np
from msgspec.structs import replace

from ...streaming.config import AudioFormat
from ...streaming.events import Event, Final, Partial, Word
from ...streaming.frames import SAMPLE_RATE
from ..pump import pump
from ..sources import paced
from ..websocket import connect
from .account import Account, Ear
from .streams import Int16, Material, hush

SPEECH_S: Constant = 15.0  # in a round, at most, unless one recording is longer
GRID: Constant = 480  # samples of a frame of the detectors: in every round they fall on the same places
PACKET: Constant = SAMPLE_RATE // 10
SLACK_S: Constant = 0.0021  # times in events are whole milliseconds, and so is a sum of two

Lag = tuple[float, float]  # how much of the soak is done, 0..1; seconds


@dataclass
class Steady:
    """`run` it; then look at what it heard."""

    url: str
    material: Material
    account: Account
    partial_lags: list[Lag] = field(default_factory=list[Lag])
    final_lags: list[Lag] = field(default_factory=list[Lag])
    finals: list[Final] = field(default_factory=list[Final])
    rounds: float = 0.0  # sent

    def __post_init__(self) -> None:
        chosen: list[Int16] = []
        for recording in sorted(self.material.recordings, key=len):
            if not chosen or sum(map(len, chosen)) + len(recording) <= SPEECH_S * SAMPLE_RATE:
                chosen.append(recording)
        parts = [part for each in chosen for part in (each, hush(self.material.pause(len(each))))]
        length = sum(map(len, parts))
        self._round = (
            np.concatenate([*parts, hush(SAMPLE_RATE + -(length + SAMPLE_RATE) % GRID)]).astype("<i2").tobytes()
        )

    async def run(self, done: Callable[[], float]) -> None:
        """Speak until `done` is 1. Raises `XlsrLiveError`."""
        ear = Ear(self.account)

        async def packets() -> AsyncIterator[bytes]:
            at = 0
            while done() < 1:
                yield (packet := self._round[at : at + 2 * PACKET])
                self.rounds += len(packet) / len(self._round)
                at = (at + len(packet)) % len(self._round)

        def hear(event: Event) -> None:
            ear.hear(event)
            match event:
                case Partial(lag_ms=lag):
                    self.partial_lags.append((done(), lag / 1000))
                case Final(lag_ms=lag):
                    self.final_lags.append((done(), lag / 1000))
                    self.finals.append(event)
                case _:
                    pass

        async with connect(self.url) as stream:
            await pump(stream, paced(packets(), AudioFormat(), 1.0), hear, interruptible=False)

    def drift(self) -> list[str]:
        """What differs between the whole rounds, but for the first, in which the session was new."""
        length = len(self._round) / 2 / SAMPLE_RATE
        heard: list[list[Word]] = [[] for _ in range(int(self.rounds))]
        for final in self.finals:
            if (number := int(final.start / length)) < len(heard):
                heard[number] += [_earlier(word, number * length) for word in final.words]
        return [
            f"round {number} is not as round 2: {_text(words)} instead of {_text(heard[1])}"
            for number, words in enumerate(heard[2:], 3)
            if not _same(words, heard[1])
        ]


def _earlier(word: Word, by: float) -> Word:
    return replace(word, start=word.start - by, end=word.end - by)


def _same(one: Sequence[Word], other: Sequence[Word]) -> bool:
    return len(one) == len(other) and all(
        a.word == b.word and max(abs(a.start - b.start), abs(a.end - b.end)) <= SLACK_S
        for a, b in zip(one, other, strict=True)
    )


def _text(words: Sequence[Word]) -> str:
    return " ".join(f"{word.word}@{word.start:.3f}" for word in words)
