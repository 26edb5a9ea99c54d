"""Kubernetes stops servers with live sessions: preStop while connections live on, SIGTERM, SIGKILL. Nothing is lost."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.client.bench.streams import pause_noise
from xlsr_live.server.run import running_server
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, Warning, from_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.load.kills import Speaker, compared
from tests.support.manifests import manifests, variables
from tests.support.moves import count_moves
from tests.support.paths import DIGITS
from tests.support.pods import Pod, Service, StopTimes, service
from tests.support.wire import dial

TOKEN = "s3cret"
CLIPS = ("george", "jackson", "nicolas")
# The manifest's order of times, shortened; `tests/docs/test_kubernetes.py` checks the manifest's own.
TIMES = StopTimes(hook=0.5, grace=30.0)
HANGING = StopTimes(hook=0.5, grace=2.0)  # SIGTERM does nothing, so there is nothing to wait for
FLAGS = ["--model", str(DIGITS), "--max-sessions", "8", "--grace-s", "8", "--move-s", "4", "--log-level", "error"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to catch")]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of the container, with the secret where a test may write."""
    (tmp_path / "token").write_text(TOKEN)
    found = variables(manifests("cpu"))
    assert found["XLSR_LIVE_TOKEN_FILE"].endswith("/token")
    return found | {"XLSR_LIVE_TOKEN_FILE": str(tmp_path / "token")}


@pytest.fixture
def audio(clip: Callable[[str], NDArray[np.int16]]) -> list[bytes]:
    """Some 14 s of digits in several utterances, in another order for each session."""
    spoken = [part for name in CLIPS for part in (clip(name)[:64_000], pause_noise(12_000))]
    orders = [spoken[2 * at :] + spoken[: 2 * at] for at in range(len(CLIPS))]
    return [np.concatenate(order).astype("<i2").tobytes() for order in orders]


@asynccontextmanager
async def pods(number: int, environment: dict[str, str]) -> AsyncGenerator[list[Pod]]:
    started = [Pod(FLAGS, environment) for _ in range(number)]
    try:
        yield [await pod.ready() for pod in started]
    finally:
        for pod in started:
            pod.kill()


async def unmovable(url: str, audio: bytes) -> tuple[list[Event], int | None]:
    """A client of an earlier version, which cannot move, sends until the server closes."""
    events: list[Event] = []
    async with dial(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as websocket:

        async def send() -> None:
            for at in range(0, len(audio), 3_200):
                await websocket.send(audio[at : at + 3_200])
                await asyncio.sleep(0.1)

        sending = asyncio.create_task(send())
        async for message in websocket:
            events.append(from_json(message))
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        return events, websocket.close_code


def started(audio: list[bytes], url: str, running: asyncio.TaskGroup) -> list[Speaker]:
    speakers = [Speaker(each, token=TOKEN) for each in audio]
    for speaker in speakers:
        running.create_task(speaker.run([url], 1.0))
    return speakers


async def all_speak(speakers: list[Speaker]) -> None:
    while not all(speaker.speaking for speaker in speakers):
        await asyncio.sleep(0.02)


def moves(speakers: list[Speaker]) -> list[int]:
    return [count_moves([event for _, event in speaker.events]) for speaker in speakers]


async def replace(old: Pod, new: Pod, address: Service, times: StopTimes = TIMES) -> int:
    """A rolling update: the new pod is ready, the old one leaves the endpoints and stops."""
    address.endpoints = [new]
    return await old.stop(times)


def test_two_pods_are_replaced_under_live_sessions(
    audio: list[bytes], environment: dict[str, str], recognizer: Recognizer
):
    """The first pod stops in time. The second hangs and is killed."""

    async def scene() -> None:
        async with pods(3, environment) as (first, second, third), service(first) as address:
            async with asyncio.timeout(120), asyncio.TaskGroup() as running:
                speakers = started(audio, address.url, running)
                old = running.create_task(unmovable(address.url, audio[0]))
                await all_speak(speakers)
                update = running.create_task(replace(first, second, address))
                await asyncio.sleep(0.1)
                speakers += started(audio[:1], address.url, running)  # during the preStop hook
                while moves(speakers) != [1, 1, 1, 0] or not speakers[-1].events:
                    await asyncio.sleep(0.02)
                second.hang()
                assert await replace(second, third, address, HANGING) == -9
            assert moves(speakers) == [2, 2, 2, 1]
            assert await update == 0
            # On the third pod each first asks for its session, which is lost, and then moves.
            assert address.accepted == {first.port: 4, second.port: 4, third.port: 8}
            assert address.failed == 0  # nobody reached a pod that no longer listens
            await nothing_lost(speakers)
            events, code = old.result()
            assert code == 1001
            assert isinstance(events[-1], SessionEnded)
            assert [event.code for event in events if isinstance(event, Warning)] == ["shutting_down"]
            assert [event for event in events if isinstance(event, Final)]

    async def nothing_lost(speakers: list[Speaker]) -> None:
        found = Counter[str]()
        with running_server(recognizer) as server:
            for speaker in speakers:
                unbroken = Speaker(speaker.audio)
                await unbroken.run([server.url], 0.0)
                assert len(unbroken.finals) >= len(CLIPS)
                found += compared(speaker.finals, unbroken.finals)
        assert found.total() == 2 * found["finals"] == 2 * (found["identical"] + found["same text"])

    asyncio.run(scene())
