"""Broken connections and unbroken sessions: `python -m tests.load.cuts --sessions 50 --cuts 200`; fewer in the suite.

Clients use the library through a proxy that breaks their connections again and again, at any byte in either direction,
even during the handshake of a resumption. Their events must equal those over a stable connection. Otherwise the exit
status is 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import msgspec
import numpy as np
import soundfile
from xlsr_live.client.output.progress import progress
from xlsr_live.client.remote import stream as client
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.protocol.events import Event, Partial, SessionStarted, to_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.load.program import campaign_options
from tests.support.paths import CLIPS

NEVER = 1 << 60
AT_ONCE = 8
SPARE = 3  # extra cuts for each session: some come after its end


@asynccontextmanager
async def cutting(
    server: RunningServer,
    up: Sequence[int] = (),
    down: Sequence[int] = (),
    cut: Callable[[], None] = lambda: None,
    *,
    half_open: bool = False,
) -> AsyncIterator[str]:
    """The address of a proxy whose nth connection breaks after `up[n]` or `down[n]` bytes, also within a frame.

    It calls `cut` then. `half_open`: the server does not notice.
    """
    made = 0
    left: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        limits = [each[made] if made < len(each) else NEVER for each in (up, down)]
        made += 1
        reader_up, writer_up = await asyncio.open_connection("127.0.0.1", server.port)

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, limit: int) -> None:
            while limit > 0 and (data := await source.read(min(limit, 4_096))):
                target.write(data)
                await target.drain()
                limit -= len(data)
            if limit <= 0:
                cut()

        directions = (reader, writer_up, limits[0]), (reader_up, writer, limits[1])
        tasks = [asyncio.create_task(carry(*one)) for one in directions]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        left.append(writer_up)
        for each in (writer, *(() if half_open else left)):
            each.transport.abort()

    proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with proxy:
        yield f"ws://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/v1/stream"
    for each in left:
        each.transport.abort()


async def converse(url: str, packets: Sequence[bytes], audio: AudioFormat) -> tuple[list[Event], int]:
    """Send packets with a flush in the middle; return the events and the number of resumptions."""
    async with connect(url, audio=audio) as stream:
        events = [await anext(aiter(stream))]  # from here on the session can be resumed

        async def feed() -> None:
            for number, packet in enumerate(packets):
                await stream.send(packet)
                if number == len(packets) // 2:
                    await stream.flush()
            await stream.end()

        feeding = asyncio.create_task(feed())
        events += [event async for event in stream]
        await feeding
        return events, stream.resumed


def timeless(events: Sequence[Event]) -> list[str]:
    """Events without their session names, lags and levels."""
    return [
        to_json(msgspec.structs.replace(event, lag_ms=0.0, level=0))
        for event in events
        if not isinstance(event, SessionStarted)
    ]


def difference(broken: Sequence[Event], unbroken: Sequence[Event]) -> str | None:
    """The first difference that the broken connection caused. Only partials may be missing."""
    kept = [[event for event in events if not isinstance(event, Partial)] for events in (broken, unbroken)]
    received, expected = map(timeless, kept)
    if received != expected:
        return f"{received} instead of {expected}"
    rest = iter(timeless(unbroken))
    unexpected = [line for line in timeless(broken) if line not in rest]  # takes from `rest` up to the line
    return f"{unexpected[0]} is new, or in another place" if unexpected else None


def speech(rng: Random) -> list[bytes]:
    """Clips in random order, with pauses, in packets of a random size."""
    clips = [soundfile.read(CLIPS / f"{name}.flac", dtype="int16")[0] for name in ("george", "jackson", "nicolas")]
    rng.shuffle(clips)
    parts = [part for clip in clips[:2] for part in (clip, np.zeros(rng.randrange(16_000), np.int16))]
    data = np.concatenate(parts).tobytes()
    size = rng.choice([640, 3_200, 3_201, 9_999])
    return [data[at : at + size] for at in range(0, len(data), size)]


def breaks(rng: Random, count: int) -> tuple[list[int], list[int]]:
    """The bytes up and down after which each connection breaks; the first holds until the session starts."""
    up, down = [NEVER] * count, [NEVER] * count
    for number in range(count):
        up[number] = rng.randrange(2_000 if number == 0 else 50, 40_000)
        if rng.random() < 0.5:
            down[number] = rng.randrange(1_000 if number == 0 else 50, 2_000)
    return up, down


@dataclass
class CutCampaign:
    sessions: int = 0
    cuts: int = 0
    resumed: int = 0
    problems: list[str] = field(default_factory=list[str])

    def cut(self) -> None:
        self.cuts += 1


async def campaign(server: RunningServer, sessions: int, cuts: int, seed: int) -> CutCampaign:
    """Cut at least `cuts` times: each session gets spare cuts, as some come after its end."""
    found = CutCampaign()
    numbers = iter(range(sessions))

    async def client_after_client() -> None:
        for number in numbers:
            rng = Random(f"{seed} {number}")
            packets = speech(rng)
            up, down = breaks(rng, cuts // sessions + SPARE)
            found.sessions += 1
            try:
                unbroken, _ = await converse(server.url, packets, AudioFormat())
                async with cutting(server, up, down, found.cut) as url:
                    broken, times = await converse(url, packets, AudioFormat())
            except Exception as error:
                found.problems.append(f"session {number}: {error!r}")
                continue
            found.resumed += times
            if (wrong := difference(broken, unbroken)) is not None:
                found.problems.append(f"session {number}: {wrong}")
            advance()

    with progress(sessions) as (advance, _):
        await asyncio.gather(*(client_after_client() for _ in range(AT_ONCE)))
    if found.cuts < cuts:
        found.problems.append(f"only {found.cuts} cuts")
    return found


def main() -> int:
    options = campaign_options(__doc__, sessions=50, cuts=200)
    client.FIRST_PAUSE_S = 0.01  # type: ignore[misc]
    with Recognizer.load(options.model, adaptive=False) as recognizer, running_server(recognizer) as server:
        found = asyncio.run(campaign(server, options.sessions, options.cuts, options.seed))
    print(f"{found.sessions} sessions, {found.cuts} cuts, {found.resumed} resumptions")
    print("\n".join(found.problems) or "every client received the events of a stable connection")
    return 1 if found.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
