"""Clients that come and go on a server: sessions of all kinds, sent as fast as they are taken."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import numpy as np

from ...streaming.config import AudioFormat, SessionConfig
from ...streaming.frames import SAMPLE_RATE
from ...streaming.protocol.events import Error, Event, Partial, SessionEnded, SpeechEnded
from ..errors import ConnectionProblem
from ..remote.stream import Stream
from ..remote.websocket import connect
from .account import BUSY, Account, Ear
from .streams import Material

CONFIGS: Final = (
    SessionConfig(),
    SessionConfig(hop_ms=320, lookahead_ms=320),
    SessionConfig(mode="window"),
    SessionConfig(partials=False),
    SessionConfig(finals="append"),
    SessionConfig(vad="silero", max_utterance_ms=10_000),
)
FORMATS: Final = (
    AudioFormat(),
    AudioFormat(encoding="pcm_f32le"),
    AudioFormat(sample_rate=48_000, channels=2),
)
SECONDS: Final = (2.0, 60.0)  # of audio in a session
PACKET_MS: Final = (20, 1_000)
# How sessions go, by weight: to their end, to it over connections that break, or away before it with or without a word.
WAYS: Final = {"end": 6, "break": 2, "close": 1, "vanish": 1}
MOST_BREAKS: Final = 3
AGAIN_S: Final = 0.5  # after a refusal


class Churn:
    """Every client opens one session after the other, with audio, settings and an end by `seed`.

    `heard` is told of seconds of audio as events show that they were heard.
    """

    def __init__(
        self, url: str, material: Material, seed: int, account: Account, heard: Callable[[float], None]
    ) -> None:
        self._url = url
        self._material = material
        self._seed = seed
        self._account = account
        self._heard = heard

    async def client(self, number: int, enough: Callable[[], bool]) -> None:
        """Come and go until there is `enough`. Raises `ConnectionProblem`, but not where the server is only busy."""
        chance = random.Random(f"{self._seed} {number}")
        while not enough():
            try:
                await self._visit(chance)
            except ConnectionProblem as problem:
                self._account.refused += problem.status == 503  # before the upgrade
                if problem.code not in BUSY:
                    raise
                await asyncio.sleep(AGAIN_S)

    async def _visit(self, chance: random.Random) -> None:
        config, audio = chance.choice(CONFIGS), chance.choice(FORMATS)
        way = chance.choices([*WAYS], [*WAYS.values()])[0]
        size = SAMPLE_RATE * chance.randint(*PACKET_MS) // 1000
        total = round(SAMPLE_RATE * chance.uniform(*SECONDS))
        count = -(-total // size)
        breaks = {chance.randrange(count) for _ in range(MOST_BREAKS)} if way == "break" else set[int]()
        stays = way in ("end", "break")
        packets = self._packets(chance.randrange(len(self._material.recordings)), size, total, audio)
        ear, sent = Ear(self._account), 0
        async with connect(self._url, config=config, audio=audio) as stream:
            events = aiter(stream)
            ear.hear(first := await anext(events))
            if isinstance(first, Error):  # it was let in, and there was too much to do after all
                self._account.sessions += 1
                raise ConnectionProblem(first.message, code=first.code)
            listening = asyncio.create_task(self._listen(events, ear))
            try:
                for number, packet in enumerate(packets):
                    if not stays and number == count // 2:
                        break
                    if number in breaks:
                        _cut(stream)
                    await stream.send(packet)
                    sent += size
                if stays:
                    await stream.end()
                    await listening
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            self._account.resumed += stream.resumed
            if not stays:
                self._account.left += 1
                self._account.left_s += sent / SAMPLE_RATE
            if way == "vanish":
                _cut(stream)

    async def _listen(self, events: AsyncIterator[Event], ear: Ear) -> None:
        at = 0.0
        async for event in events:
            ear.hear(event)
            match event:
                case SpeechEnded(end=reached) | Partial(audio_s=reached) | SessionEnded(audio_s=reached):
                    self._heard(max(0.0, reached - at))
                    at = max(at, reached)
                case _:
                    pass

    def _packets(self, first: int, size: int, total: int, audio: AudioFormat) -> Iterator[bytes]:
        for packet in self._material.packets(first, size, total):
            samples = np.frombuffer(packet, "<i2")
            if audio.encoding == "pcm_f32le":
                samples = (samples / np.float32(32_768)).astype("<f4")
            yield np.repeat(samples, audio.channels * audio.sample_rate // SAMPLE_RATE).tobytes()


def _cut(stream: Stream) -> None:
    """Break the connection, as a network does."""
    stream._connection.transport.abort()  # pyright: ignore[reportPrivateUsage]
