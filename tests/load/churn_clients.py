"""Churn clients: they open sessions of all kinds one after another and send audio as fast as the server takes it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import numpy as np
from xlsr_live.client.bench.streams import Playlist
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.remote.stream import Stream
from xlsr_live.client.remote.websocket import connect
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.frames import SAMPLE_RATE
from xlsr_live.streaming.protocol.events import Error, Event, Partial, SessionEnded, SpeechEnded

from tests.load.ledger import BUSY, EventCounter, Ledger

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
# How a session goes, by weight: complete; complete over a connection that breaks; closed or cut in the middle.
ENDINGS: Final = {"end": 6, "break": 2, "close": 1, "vanish": 1}
MAX_BREAKS: Final = 3
RETRY_S: Final = 0.5  # after a refusal


class ChurnClients:
    """`seed` decides the audio, settings and ending of each session.

    `on_progress` receives seconds of audio as events confirm them.
    """

    def __init__(
        self, url: str, playlist: Playlist, seed: int, ledger: Ledger, on_progress: Callable[[float], None]
    ) -> None:
        self._url = url
        self._playlist = playlist
        self._seed = seed
        self._ledger = ledger
        self._on_progress = on_progress

    async def run_client(self, number: int, enough: Callable[[], bool]) -> None:
        """Open sessions until `enough()`. Raises `ConnectionProblem`, unless the server is only busy."""
        rng = random.Random(f"{self._seed} {number}")
        while not enough():
            try:
                await self._run_session(rng)
            except ConnectionProblem as problem:
                self._ledger.refused += problem.status == 503  # before the upgrade
                if problem.code not in BUSY:
                    raise
                await asyncio.sleep(RETRY_S)

    async def _run_session(self, rng: random.Random) -> None:
        config, audio = rng.choice(CONFIGS), rng.choice(FORMATS)
        ending = rng.choices([*ENDINGS], [*ENDINGS.values()])[0]
        size = SAMPLE_RATE * rng.randint(*PACKET_MS) // 1000
        total = round(SAMPLE_RATE * rng.uniform(*SECONDS))
        count = -(-total // size)
        breaks = {rng.randrange(count) for _ in range(MAX_BREAKS)} if ending == "break" else set[int]()
        completes = ending in ("end", "break")
        packets = self._packets(rng.randrange(len(self._playlist.recordings)), size, total, audio)
        counter, sent = EventCounter(self._ledger), 0
        async with connect(self._url, config=config, audio=audio) as stream:
            events = aiter(stream)
            counter.count(first := await anext(events))
            if isinstance(first, Error):  # the server accepted the upgrade and then was overloaded
                self._ledger.sessions += 1
                raise ConnectionProblem(first.message, code=first.code)
            receiving = asyncio.create_task(self._receive(events, counter))
            try:
                for number, packet in enumerate(packets):
                    if not completes and number == count // 2:
                        break
                    if number in breaks:
                        _cut(stream)
                    await stream.send(packet)
                    sent += size
                if completes:
                    await stream.end()
                    await receiving
            finally:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)
            self._ledger.resumed += stream.resumed
            if not completes:
                self._ledger.left += 1
                self._ledger.left_s += sent / SAMPLE_RATE
            if ending == "vanish":
                _cut(stream)

    async def _receive(self, events: AsyncIterator[Event], counter: EventCounter) -> None:
        at = 0.0
        async for event in events:
            counter.count(event)
            match event:
                case SpeechEnded(end=reached) | Partial(audio_s=reached) | SessionEnded(audio_s=reached):
                    self._on_progress(max(0.0, reached - at))
                    at = max(at, reached)
                case _:
                    pass

    def _packets(self, first: int, size: int, total: int, audio: AudioFormat) -> Iterator[bytes]:
        for packet in self._playlist.packets(first, size, total):
            samples = np.frombuffer(packet, "<i2")
            if audio.encoding == "pcm_f32le":
                samples = (samples / np.float32(32_768)).astype("<f4")
            yield np.repeat(samples, audio.channels * audio.sample_rate // SAMPLE_RATE).tobytes()


def _cut(stream: Stream) -> None:
    """Break the connection as a network failure does."""
    stream._connection.transport.abort()  # pyright: ignore[reportPrivateUsage]
