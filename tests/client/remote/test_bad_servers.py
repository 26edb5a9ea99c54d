"""The websocket client against servers and networks that fail, and at wrong addresses."""

from __future__ import annotations

import asyncio
import socket
import threading
from http import HTTPStatus

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.remote import connection, greeting, liveness, stream
from xlsr_live.client.remote.websocket import connect
from xlsr_live.streaming.protocol.events import (
    Error,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    to_json,
)

from tests.support.bad_server import against, bad_server, silent
from tests.support.remote_client import transcribe_remotely


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (HTTPStatus.UNAUTHORIZED, "token"),
        (HTTPStatus.FORBIDDEN, "does not allow"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "try again in 7 seconds"),
        (HTTPStatus.INTERNAL_SERVER_ERROR, "log"),
    ],
)
def test_refusals_give_a_remedy(status: HTTPStatus, words: str):
    _, problem = against(silent, status)
    assert words in str(problem)
    assert (problem.code, problem.status, problem.retry_after) == (f"http_{status.value}", status.value, 7)


def test_of_several_servers_that_refuse_the_one_that_says_when_to_come_again_counts():
    refused = [ConnectionProblem(str(seconds), retry_after=seconds) for seconds in (None, 9, 5)]

    class Refusing(connection.Servers):
        async def open(self) -> ClientConnection:
            raise refused[self.current]

    for count, expected in ((1, 0), (2, 1), (3, 2)):
        with pytest.raises(ConnectionProblem) as raised:
            asyncio.run(Refusing([f"ws://{number}" for number in range(count)], None).open_any())
        assert raised.value is refused[expected]


def test_a_server_that_hangs_up():
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(to_json(SessionStarted(session="s", model="m", mode="window")))
        await connection.close(1001, "going away")

    events, problem = against(handler)
    assert len(events) == 1
    assert problem.code == "closed_early"
    assert "1001 going away" in str(problem)


def test_an_error_before_the_end_names_the_reason():
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(to_json(Error(code="idle_timeout", message="no message for 60 s")))

    events, problem = against(handler)
    assert isinstance(events[0], Error)
    assert problem.code == "idle_timeout"
    assert "no message for 60 s" in str(problem)


def test_a_server_of_another_protocol():
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send("hello")

    assert against(handler)[1].code == "not_our_protocol"


def test_sending_to_a_closed_connection_is_an_error():
    async def run() -> None:
        async with bad_server(lambda connection: connection.close(1011, "broken")) as url, connect(url) as stream:
            while True:
                await stream.send(bytes(3_200))
                await asyncio.sleep(0)

    with pytest.raises(ConnectionProblem, match="1011 broken"):
        asyncio.run(run())


def test_no_server_at_the_address():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/v1/stream"
        with pytest.raises(ConnectionProblem, match=r"connection refused.*xlsr-live serve"):
            asyncio.run(transcribe_remotely(url, np.zeros(1, np.int16)))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/v1/stream",
        "127.0.0.1:8765",
        "ws:///v1/stream",
        "ws://a..b/v1/stream",
        "ws://studio:99999/v1/stream",
        "ws://[::1/v1/stream",
    ],
)
def test_invalid_addresses(url: str):
    with pytest.raises(ConnectionProblem, match="not a websocket address"):
        asyncio.run(transcribe_remotely(url, np.zeros(1, np.int16)))


def test_a_server_that_is_no_web_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(4_096)
                peer.sendall(b"220 mail.example.org ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ConnectionProblem, match="not a websocket server"):
            asyncio.run(transcribe_remotely(url, np.zeros(1, np.int16)))
        thread.join()


STARTED = to_json(SessionStarted(session="s", model="m", mode="window", resume="token", resume_s=0.2))


ENDED = to_json(SessionEnded(audio_s=0.0, utterances=0))


def test_a_server_that_accepts_the_reconnection_and_stays_silent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(greeting, "ANSWER_S", 0.2)

    async def handler(connection: ServerConnection) -> None:
        if "resume" in str(await connection.recv()):
            await connection.wait_closed()
        await connection.send(STARTED)
        await asyncio.sleep(0.1)
        connection.transport.abort()

    assert against(handler)[1].code == "timeout"


def test_a_network_that_fails_silently(monkeypatch: pytest.MonkeyPatch):
    async def handler(connection: ServerConnection) -> None:
        if "resume" in str(await connection.recv()):
            await connection.send(to_json(SessionResumed(session="s", received=0, event=1)))
            await connection.send(ENDED)
        else:
            await connection.send(STARTED)
        await connection.wait_closed()

    async def run() -> int:
        loop, passed = asyncio.get_running_loop(), 0.0
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + passed)
        async with bad_server(handler) as url, connect(url) as stream:
            async for event in stream:
                passed += liveness.SILENT_S if isinstance(event, SessionStarted) else 0  # in which no data came
            return stream.resumed

    assert asyncio.run(run()) == 1


def test_a_client_that_does_not_receive_does_not_blame_the_server_for_silence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "MESSAGE_QUEUE", 4)
    monkeypatch.setattr(stream, "EVENT_QUEUE", 4)

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        for _ in range(20):
            await connection.send(STARTED)
        await connection.send(ENDED)
        await connection.wait_closed()

    async def run() -> tuple[int, int]:
        loop, passed = asyncio.get_running_loop(), 0.0
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + passed)
        async with bad_server(handler) as url, connect(url) as stream:
            while stream._connection.transport.is_reading():
                await asyncio.sleep(0)
            for _ in range(2):
                passed += liveness.SILENT_S
                await asyncio.sleep(0.01)  # for the look at the clock
            return len([event async for event in stream]), stream.resumed

    assert asyncio.run(run()) == (21, 0)
