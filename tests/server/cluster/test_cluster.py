"""Two replicas under Ray Serve: a killed one, a stopped one, and too many clients."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.run import running_server
from xlsr_live.streaming.protocol.events import Final
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import DIGITS
from tests.support.wire import settles

if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("replicas are found in /proc", allow_module_level=True)

from tests.load.cluster import Cluster, running_cluster
from tests.load.kills import Speaker, compared

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TOKEN = "a-token-for-this-test"
SETTINGS = {"model": DIGITS, "port": 0, "max_sessions": 4, "log_level": "error", "token": TOKEN}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(**SETTINGS, replicas=2) as cluster:
        cluster.wait_for(2)
        yield cluster


@pytest.fixture(scope="module")
def speech(clip: Callable[[str], NDArray[np.int16]]) -> bytes:
    pause = np.zeros(16_000, np.int16)
    return np.concatenate([each for name in ("george", "jackson", "nicolas") for each in (clip(name), pause)]).tobytes()


@pytest.fixture(scope="module")
def unbroken(recognizer: Recognizer, speech: bytes) -> list[Final]:
    speaker = Speaker(speech)
    with running_server(recognizer) as server:
        asyncio.run(speaker.run([server.url], 0.0))
    return speaker.finals


async def speak(cluster: Cluster, speech: bytes, disturb: Callable[[], Awaitable[None]]) -> Sequence[Speaker]:
    """Sessions in both replicas, which speak in real time; after the first texts of all of them, something happens."""
    speakers: list[Speaker] = []
    async with asyncio.TaskGroup() as group:
        while len(speakers) < 2 or not all((await asyncio.to_thread(cluster.sessions)).values()):
            assert len(speakers) < 4, "a replica gets no session"
            speakers.append(Speaker(speech, token=TOKEN))
            group.create_task(speakers[-1].run([cluster.url], 1.0))
            while not speakers[-1].events:
                await asyncio.sleep(0.05)
        while not all(speaker.speaking or speaker.finals for speaker in speakers):
            await asyncio.sleep(0.05)
        await disturb()
    return speakers


def check(speakers: Sequence[Speaker], unbroken: Sequence[Final]) -> None:
    for speaker in speakers:
        found = compared(speaker.finals, unbroken)
        assert (found["lost"], found["doubled"], found["misnumbered"]) == (0, 0, 0), (speaker.finals, unbroken)
        assert [final.text for final in speaker.finals] == [final.text for final in unbroken]
    assert sum(speaker.moved for speaker in speakers) >= 1


def test_a_full_cluster_says_when_to_come_again_and_a_client_comes(cluster: Cluster):
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(connect(cluster.url, token=TOKEN, wait_s=60)) for _ in range(8)]
            with pytest.raises(ConnectionProblem) as refused:
                await stack.enter_async_context(connect(cluster.url, token=TOKEN))
            assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, "server_full", 5)
            waiting = asyncio.create_task(stack.enter_async_context(connect(cluster.url, token=TOKEN, wait_s=60)))
            await asyncio.sleep(0.2)
            assert await asyncio.to_thread(settles, lambda: sum(cluster.sessions().values()), 8)
            await streams[0].aclose()
            await waiting

    asyncio.run(scene())


def test_a_ticket_of_one_replica_opens_a_websocket_of_any(cluster: Cluster):
    async def scene(ticket: str) -> None:
        with pytest.raises(ConnectionProblem, match="401"):
            await connect(cluster.url).__aenter__()
        async with connect(f"{cluster.url}?ticket={ticket}"), connect(f"{cluster.url}?ticket={ticket}"):
            with pytest.raises(ConnectionProblem, match="401"):
                await connect(f"{cluster.url}?ticket={ticket}").__aenter__()

    asyncio.run(scene(cluster.request("POST", "/v1/ticket").json()["ticket"]))


def test_a_killed_replica_loses_nothing(cluster: Cluster, speech: bytes, unbroken: list[Final]):
    async def kill() -> None:
        cluster.kill(next(iter(await asyncio.to_thread(cluster.sessions))))

    check(asyncio.run(speak(cluster, speech, kill)), unbroken)


def test_a_stopped_replica_hands_over_its_sessions(cluster: Cluster, speech: bytes, unbroken: list[Final]):
    cluster.wait_for(2)
    before = set(cluster.sessions())

    async def scale_down() -> None:
        await asyncio.to_thread(cluster.deploy, **SETTINGS, replicas=1)

    check(asyncio.run(speak(cluster, speech, scale_down)), unbroken)
    cluster.wait_for(1)
    assert set(cluster.sessions()) < before, "the other replica was replaced"
    assert cluster.command("status") == "running, replicas: 1 running\n"
