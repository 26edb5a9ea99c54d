"""Kills one of two servers in mid-utterance: `python -m tests.load.kills --kills 10 --sessions 4`.

In each round paced sessions begin on one server; when all have text of an open utterance or have waited long enough,
that server gets SIGKILL, and the sessions move to the other one. Their finals are compared with those of the same audio
over a stable connection. The exit status is 1 if an utterance is lost or doubled. Needs the speech collection
(`tests/support/speech.py`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final as Constant

import numpy as np
import soundfile
from xlsr_live.client.output.progress import progress
from xlsr_live.client.pump import pump
from xlsr_live.client.remote.websocket import connect
from xlsr_live.client.sources.sources import paced
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.protocol.events import Event, Final, Partial, SpeechEnded

from tests.load.program import campaign_options
from tests.load.server_process import ready_url, start_server
from tests.support.speech import listed

PACKET: Constant = 3_200  # bytes: 100 ms
FARTHEST_S: Constant = 0.3  # that edges of an utterance may move
LENGTH_S: Constant = 24.0  # of a session


class Replica:
    """A server in its own process."""

    def __init__(self, model: str) -> None:
        self._process = start_server(["--model", model, "--max-sessions", "16", "--log-level", "error"])
        self._url: str | None = None

    @property
    def url(self) -> str:
        """Its address, once it is ready."""
        self._url = self._url or ready_url(self._process)
        if self._url is None:
            raise SystemExit("a server did not start")
        return self._url

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class Speaker:
    """One session: its audio, its events and when they came."""

    audio: bytes
    events: list[tuple[float, Event]] = field(default_factory=list)
    moved: int = 0
    token: str | None = None

    async def run(self, urls: Sequence[str], pace: float) -> None:
        loop = asyncio.get_running_loop()

        async def packets() -> AsyncIterator[bytes]:
            for at in range(0, len(self.audio), PACKET):
                yield self.audio[at : at + PACKET]

        async with connect(urls, token=self.token) as stream:
            blocks = paced(packets(), AudioFormat(), pace)
            await pump(stream, blocks, lambda event: self.events.append((loop.time(), event)), interruptible=False)
            self.moved = stream.moved

    @property
    def speaking(self) -> bool:
        """Whether the newest event about an utterance is one of its partials."""
        spoken = [event for _, event in self.events if isinstance(event, Partial | SpeechEnded)]
        return bool(spoken) and isinstance(spoken[-1], Partial)

    @property
    def finals(self) -> list[Final]:
        return [event for _, event in self.events if isinstance(event, Final)]

    def silence(self, killed: float) -> float | None:
        """Seconds from the kill to the next text."""
        after = [at for at, event in self.events if at > killed and isinstance(event, Partial | Final)]
        return after[0] - killed if after else None


def compared(moved: Sequence[Final], unbroken: Sequence[Final]) -> Counter[str]:
    """Finals that are identical, have the same text, have another text, are lost, or come twice."""
    found = Counter[str](finals=len(unbroken))
    rest = list(moved)
    for final in unbroken:
        near = [one for one in rest if min(one.end, final.end) - max(one.start, final.start) > FARTHEST_S]
        if not near:
            found["lost"] += 1
            continue
        rest.remove(near[0])
        same, text = near[0] == final, near[0].text == final.text
        found["identical" if same else "same text" if text else "other text"] += 1
    found["doubled"] += len(rest)
    found["misnumbered"] += [one.utterance for one in moved] != sorted({one.utterance for one in moved})
    return found


def make_audio(rng: Random, seconds: float = LENGTH_S) -> bytes:
    """Recordings with pauses between them."""
    paths = [path for corpus in ("an4", "librispeech", "digits") for path, _ in listed(corpus)]
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * 16_000:
        samples, _ = soundfile.read(rng.choice(paths), dtype="int16")
        noise = np.random.default_rng(len(parts)).standard_normal(round(rng.uniform(0.8, 2.0) * 16_000)) * 4
        parts += [samples[: 9 * 16_000], noise.astype(np.int16)]
    return np.concatenate(parts).astype("<i2").tobytes()


@dataclass
class Kills:
    """What all rounds found."""

    finals: Counter[str] = field(default_factory=Counter[str])
    silences: list[float] = field(default_factory=list[float])
    cut: int = 0  # sessions with an open utterance at the kill
    unmoved: int = 0

    async def round(self, victim: Replica, other: Replica, sessions: int, rng: Random) -> None:
        speakers = [Speaker(make_audio(rng)) for _ in range(sessions)]
        unbroken = [Speaker(one.audio) for one in speakers]
        for one in unbroken:
            await one.run([other.url], 0.0)
        running = [asyncio.create_task(one.run([victim.url, other.url], 1.0)) for one in speakers]
        await asyncio.sleep(rng.uniform(5, 15))
        for _ in range(40):
            if all(one.speaking for one in speakers):
                break
            await asyncio.sleep(0.1)
        cut = [one for one in speakers if one.speaking]
        killed = asyncio.get_running_loop().time()
        victim.kill()
        await asyncio.gather(*running)
        for one, reference in zip(speakers, unbroken, strict=True):
            self.finals += compared(one.finals, reference.finals)
            self.unmoved += not one.moved
        self.cut += len(cut)
        self.silences += [silence for one in cut if (silence := one.silence(killed)) is not None]


def main() -> int:
    options = campaign_options(__doc__, kills=10, sessions=4)
    found, rng = Kills(), Random(options.seed)
    replicas = [Replica(options.model), Replica(options.model)]
    try:
        with progress(options.kills) as (advance, _):
            for _ in range(options.kills):
                asyncio.run(found.round(*replicas, options.sessions, rng))
                replicas = [replicas[1], Replica(options.model)]
                advance()
    finally:
        for each in replicas:
            each.kill()
    p50, p95 = np.percentile(found.silences, [50, 95]) if found.silences else (float("nan"),) * 2
    print(f"{options.kills} kills, {options.sessions} sessions each, {found.cut} with an open utterance")
    print(f"time without text: p50 {p50:.2f} s, p95 {p95:.2f} s, longest {max(found.silences, default=0):.2f} s")
    print(", ".join(f"{count} {name}" for name, count in found.finals.items()), f"; {found.unmoved} not moved")
    return 1 if found.finals["lost"] or found.finals["doubled"] or found.finals["misnumbered"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
