"""Real websockets to a real server give the finals of `transcribe`, at any pace, with one client or several."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from xlsr_live.client.pump import pump
from xlsr_live.client.remote.websocket import connect
from xlsr_live.client.sources.sources import file_blocks, paced
from xlsr_live.server.run import running_server
from xlsr_live.streaming import AudioFormat, Event, Final, Recognizer, open_audio

from tests.support.paths import CLIPS

RECORDINGS = [CLIPS / f"{name}.flac" for name in ("george", "jackson", "nicolas")]


async def finals_of(url: str, path: Path, pace: float) -> list[Final]:
    events: list[Event] = []
    audio = AudioFormat()
    async with connect(url, audio=audio) as session:
        await pump(session, paced(file_blocks(open_audio(path)), audio, pace), events.append)
    return [event for event in events if isinstance(event, Final)]


@pytest.mark.parametrize(("clients", "pace"), [(1, 0), (1, 1), (8, 0), (8, 1)])
def test_finals_equal_transcribe(recognizer: Recognizer, clients: int, pace: float):
    async def all_at_once(url: str) -> list[list[Final]]:
        paths = [RECORDINGS[number % len(RECORDINGS)] for number in range(clients)]
        return await asyncio.gather(*(finals_of(url, path, pace) for path in paths))

    expected = [recognizer.transcribe(path) for path in RECORDINGS]
    assert all(expected)
    with running_server(recognizer) as server:
        received = asyncio.run(all_at_once(server.url))
    assert received == [expected[number % len(RECORDINGS)] for number in range(clients)]
