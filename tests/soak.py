"""A long session, watched: memory and drift of times. `python tests/soak.py --minutes 30` (not part of the test suite).

Streams the clips of the tests with pauses, over and over, through one session of the digits model as fast as it goes.
Every round must give the same words at the same places in the round: any difference is drift.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import numpy as np
import soundfile
from checkpoints import DIGITS
from xlsr_live.streaming import Final, Recognizer

CLIPS = Path(__file__).parent / "clips"
PAUSE = 2 * 16_000  # samples between two clips


def one_round() -> np.ndarray:
    """Three speakers and a clock, with pauses; its length is a whole number of 30 ms frames."""
    parts = [soundfile.read(CLIPS / f"{n}.flac", dtype="float32")[0] for n in ("george", "jackson", "nicolas", "clock")]
    audio = np.concatenate([x for part in parts for x in (part, np.zeros(PAUSE, np.float32))])
    return np.concatenate((audio, np.zeros(-len(audio) % 480, np.float32)))


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def soak(minutes: float) -> int:
    audio = one_round()
    rounds = max(2, round(minutes * 60 * 16_000 / len(audio)))
    length = len(audio) / 16_000
    heard: list[list[tuple[str, float, float]]] = [[] for _ in range(rounds)]
    begun = time.monotonic()
    with Recognizer.load(str(DIGITS)) as recognizer:
        async with recognizer.session() as session:

            async def feed() -> None:
                for number in range(rounds):
                    await session.send(audio)
                    if number % max(1, rounds // 10) == 0:
                        print(
                            f"{number * length / 60:6.1f} min of audio: {resident_mib():7.1f} MiB resident", flush=True
                        )
                await session.end()

            feeding = asyncio.create_task(feed())
            async for event in session:
                if isinstance(event, Final):
                    number = min(int(event.start / length), rounds - 1)
                    for word in event.words:
                        heard[number].append((word.word, word.start - number * length, word.end - number * length))
            await feeding
    took = time.monotonic() - begun
    # Times are rounded to a millisecond, and so is the sum of a round's start and a place in it.
    drift = (
        max(abs(a[k] - b[k]) for one in heard[2:] for a, b in zip(heard[1], one, strict=True) for k in (1, 2))
        if rounds > 2
        else 0.0
    )
    same = all([w[0] for w in one] == [w[0] for w in heard[1]] for one in heard[1:])
    print(f"{rounds * length / 60:6.1f} min of audio: {resident_mib():7.1f} MiB resident, after {took:.0f} s")
    print(f"words per round: {len(heard[1])}, the same in every round: {same}; largest drift: {1000 * drift:.1f} ms")
    return 0 if same and drift <= 0.0021 else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="of audio (default 30)")
    raise SystemExit(asyncio.run(soak(parser.parse_args().minutes)))
