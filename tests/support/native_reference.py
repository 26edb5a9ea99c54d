"""Audio for the tests of dialects, and the finals that the native protocol gives for it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from xlsr_live.server.run import RunningServer
from xlsr_live.streaming.protocol.events import Final

from tests.support.wire import END, Conversation, census, packets, settles, talk

Samples = NDArray[np.int16]


def pause(seconds: float) -> Samples:
    return np.zeros(round(seconds * 16_000), np.int16)


def at_rate(samples: Samples, rate: int) -> Samples:
    return soxr.resample(samples, 16_000, rate)


def as_file(samples: Samples, form: str = "WAV", rate: int = 16_000, **options: Any) -> bytes:
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, **options)
    return file.getvalue()


async def fetch_native_finals(server: RunningServer, data: bytes, *before: str) -> list[Final]:
    """The finals of the native protocol for 16 kHz samples, or for the format that the messages `before` declare."""
    received: Conversation = await talk(server.url, [*before, *packets(data), END])
    assert not received.errors
    return [event for event in received.events if isinstance(event, Final)]


_finals: dict[tuple[bytes, ...], list[Final]] = {}


def native_finals(server: RunningServer, data: bytes, *before: str) -> list[Final]:
    """The same, cached for the whole run; other tests prove that the result is deterministic."""
    key = (data, *(each.encode() for each in before))
    if key not in _finals:
        _finals[key] = asyncio.run(fetch_native_finals(server, data, *before))
    return _finals[key]


def words(finals: list[Final]) -> list[tuple[str, float, float, float]]:
    return [(word.word, word.start, word.end, word.confidence) for final in finals for word in final.words]


@contextmanager
def leaves_nothing_behind(server: RunningServer) -> Iterator[None]:
    """Asserts that the clients of this block leave nothing behind in the server."""
    assert settles(lambda: server.sessions.count, 0)
    before = census(server)
    yield

    def excess() -> dict[str, int]:
        return {name: count for name, count in census(server).items() if count > before[name]}

    assert settles(excess, {}), f"{before} became {census(server)}"
