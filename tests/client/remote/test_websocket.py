"""The websocket client: against the real server, and against servers that behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http import HTTPStatus

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.remote import connection, liveness, stream
from xlsr_live.client.remote.pcm import encode
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.audio.decoder import AudioDecoder
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.errors import AudioError
from xlsr_live.streaming.protocol.events import (
    Command,
    Error,
    Event,
    Final,
    Rejected,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    to_json,
)
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import CLIPS

Handler = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(token="open sesame")) as server:
        yield server


async def heard(url: str, audio: NDArray[np.int16], token: str | None = "open sesame") -> list[Event]:
    """Send everything first, listen after: nothing may be lost of what nobody was waiting for."""
    async with connect(url, token=token) as stream:
        for at in range(0, len(audio), 1_777):
            await stream.send(audio[at : at + 1_777].tobytes())
        await stream.end()
        return [event async for event in stream]


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def test_finals_are_those_of_the_recognizer(server: RunningServer, recognizer: Recognizer, clip):
    events = asyncio.run(heard(server.url, clip("george")))
    assert isinstance(events[0], SessionStarted)
    assert isinstance(events[-1], SessionEnded)
    assert finals(events) == recognizer.transcribe(CLIPS / "george.flac")


def test_arrays_at_another_rate_with_settings(server: RunningServer, clip):
    wide = np.repeat(clip("jackson"), 2).astype(np.float32) / 32_768
    config = SessionConfig(partials=False, vad="none")

    async def run() -> list[Event]:
        audio = AudioFormat(sample_rate=32_000, channels=2)
        async with connect(server.url, config=config, audio=audio, token="open sesame") as stream:
            await stream.send(np.column_stack([wide, wide]))
            await stream.flush()
            await stream.end()
            return [event async for event in stream]

    events = asyncio.run(run())
    assert {type(event).__name__ for event in events}.isdisjoint({"Partial", "Error"})
    assert " ".join(final.text for final in finals(events)) == "THREE EIGHT FOUR FIVE FIVE FOUR"


def test_hotwords_of_the_start_and_others_in_mid_stream(server: RunningServer, clip):
    async def run() -> list[Event]:
        config = SessionConfig(hotwords=("two nines:3",))
        async with connect(server.url, config=config, token="open sesame") as stream:
            await stream.send(clip("george").tobytes())
            await stream.flush()
            await stream.set_hotwords(["nines:3", "fours:3"])
            await stream.set_hotwords([])
            await stream.send(clip("george").tobytes())
            await stream.end()
            return [event async for event in stream]

    heard = [final.text for final in finals(asyncio.run(run()))]
    assert heard == ["ONE TWO NINES FOUR EIGHT ONE", "ONE TWO NINE FOUR EIGHT ONE"]


def test_a_grammar_of_the_start_and_another_in_mid_stream(server: RunningServer, clip):
    async def run() -> list[Event]:
        grammar = "one: one two nine (four: four | five) eight one"
        config = SessionConfig(grammar=grammar, command_alternatives=1, partials=False)
        async with connect(server.url, config=config, token="open sesame") as stream:
            await stream.send(clip("george").tobytes())
            await stream.flush()
            await stream.set_grammar("jackson: (three | four)+")
            await stream.send(clip("george").tobytes())
            await stream.end()
            return [event async for event in stream]

    first, second = (event for event in asyncio.run(run()) if isinstance(event, Command | Rejected))
    assert isinstance(first, Command)
    assert (first.slots, first.early) == ({"four": "four"}, False)
    assert [guess.slots for guess in first.alternatives] == [{"four": "five"}]
    assert isinstance(second, Rejected)


def test_without_the_token(server: RunningServer, clip):
    with pytest.raises(ConnectionProblem, match="token is missing or wrong") as problem:
        asyncio.run(heard(server.url, clip("george"), token="open barley"))
    assert (problem.value.code, problem.value.status) == ("unauthorized", 401)


def test_a_refusal_says_what_the_server_says(recognizer: Recognizer):
    async def refused(url: str) -> ConnectionProblem:
        async with connect(url):
            with pytest.raises(ConnectionProblem) as problem:
                async with connect(url):
                    pass
        return problem.value

    for settings, code, status, why in (
        (ServerSettings(max_sessions=1), "server_full", 503, "all sessions are taken"),
        (ServerSettings(max_client_sessions=1), "client_full", 429, "this client has reached its limit of sessions"),
    ):
        with running_server(recognizer, settings) as server:
            problem = asyncio.run(refused(server.url))
        assert (problem.code, problem.status, problem.retry_after) == (code, status, 5)
        assert f"HTTP {status}: {why}" in str(problem)
        assert str(problem).endswith("(in 5 seconds)")


def test_at_a_path_that_is_not_there(server: RunningServer, clip):
    with pytest.raises(ConnectionProblem, match="/v1/stream"):
        asyncio.run(heard(server.url.replace("stream", "steam"), clip("george")))


def test_leaving_early_is_not_an_error(server: RunningServer):
    async def run() -> Event:
        async with connect(server.url, token="open sesame") as stream:
            async for event in stream:
                return event
        raise AssertionError("no event")

    assert isinstance(asyncio.run(run()), SessionStarted)


@contextlib.asynccontextmanager
async def bad_server(handler: Handler, status: HTTPStatus | None = None) -> AsyncIterator[str]:
    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        response = connection.respond(status, "no\n") if status else None
        if response:
            response.headers["Retry-After"] = "7"
        return response

    async with serve(handler, "127.0.0.1", 0, process_request=refuse) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream"


def against(handler: Handler, status: HTTPStatus | None = None) -> tuple[list[Event], ConnectionProblem]:
    """What a client gets of a server: events, then the problem."""
    events: list[Event] = []

    async def run() -> ConnectionProblem:
        async with bad_server(handler, status) as url:
            try:
                async with connect(url) as stream:
                    async for event in stream:
                        events.append(event)  # those before the problem count
            except ConnectionProblem as problem:
                return problem
        raise AssertionError("no problem")

    return events, asyncio.run(run())


async def silent(connection: ServerConnection) -> None:
    await connection.recv()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (HTTPStatus.UNAUTHORIZED, "token"),
        (HTTPStatus.FORBIDDEN, "does not allow"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "try again in 7 seconds"),
        (HTTPStatus.INTERNAL_SERVER_ERROR, "log"),
    ],
)
def test_refusals_say_what_to_do(status: HTTPStatus, words: str):
    _, problem = against(silent, status)
    assert words in str(problem)
    assert (problem.code, problem.status, problem.retry_after) == (f"http_{status.value}", status.value, 7)


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


def test_a_server_of_another_kind():
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send("hello")

    assert against(handler)[1].code == "not_our_protocol"


def test_sending_to_a_closed_connection_says_so():
    async def run() -> None:
        async with bad_server(lambda connection: connection.close(1011, "broken")) as url, connect(url) as stream:
            while True:
                await stream.send(bytes(3_200))
                await asyncio.sleep(0)

    with pytest.raises(ConnectionProblem, match="1011 broken"):
        asyncio.run(run())


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/v1/stream"
        with pytest.raises(ConnectionProblem, match=r"connection refused.*xlsr-live serve"):
            asyncio.run(heard(url, np.zeros(1, np.int16)))


@pytest.mark.parametrize("url", ["http://127.0.0.1/v1/stream", "127.0.0.1:8765", "ws:///v1/stream"])
def test_what_is_not_an_address(url: str):
    with pytest.raises(ConnectionProblem, match="not a websocket address"):
        asyncio.run(heard(url, np.zeros(1, np.int16)))


def test_something_that_is_no_web_server():
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
            asyncio.run(heard(url, np.zeros(1, np.int16)))
        thread.join()


def received(audio: AudioFormat, *packets: bytes | bytearray | memoryview | NDArray[np.floating]) -> list[bytes]:
    """What a server gets of packets."""
    got: list[bytes] = []

    async def handler(connection: ServerConnection) -> None:
        got.extend([message async for message in connection if isinstance(message, bytes)])

    async def run() -> None:
        async with bad_server(handler) as url, connect(url, audio=audio) as stream:
            for packet in packets:
                await stream.send(packet)

    asyncio.run(run())
    return got


def test_bytes_of_any_kind_arrive():
    pcm = np.arange(-4, 4, dtype="<i2")
    packets = [pcm.tobytes(), bytearray(pcm), memoryview(pcm)]
    assert received(AudioFormat(encoding="mulaw"), *packets) == 3 * [pcm.tobytes()]


@pytest.mark.parametrize(
    ("audio", "samples"),
    [
        (AudioFormat(), np.int16([1, -1, 100])),
        (AudioFormat(), np.float32([0.5, np.nan])),
        (AudioFormat(encoding="pcm_f32le"), np.float64([0.5, -np.inf])),
        (AudioFormat(channels=2), np.zeros(4, np.float32)),
        (AudioFormat(), np.zeros((4, 2), np.float32)),
        (AudioFormat(), np.zeros((4, 1, 1), np.float32)),
    ],
    ids=["integers", "nan", "infinity", "interleaved", "channels", "dimensions"],
)
def test_an_array_that_a_session_here_refuses_is_not_sent_either(audio: AudioFormat, samples: NDArray[np.floating]):
    with pytest.raises(AudioError) as here:
        AudioDecoder(audio).receive(samples)
    with pytest.raises(AudioError) as there:
        received(audio, samples)
    assert str(there.value) == str(here.value)


def test_arrays_are_not_sent_as_g711():
    with pytest.raises(AudioError, match="not as mulaw; send bytes"):
        received(AudioFormat(encoding="mulaw"), np.zeros(4, np.float32))


STARTED = to_json(SessionStarted(session="s", model="m", mode="window", resume="token", resume_s=0.2))
ENDED = to_json(SessionEnded(audio_s=0.0, utterances=0))


def test_a_server_that_lets_the_client_back_in_and_says_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "RESUME_TIMEOUT_S", 0.2)

    async def handler(connection: ServerConnection) -> None:
        if "resume" in str(await connection.recv()):
            await connection.wait_closed()
        await connection.send(STARTED)
        await asyncio.sleep(0.1)
        connection.transport.abort()

    assert against(handler)[1].code == "timeout"


def test_a_network_that_is_gone_without_a_word(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(liveness, "SILENT_S", 0.3)

    async def handler(connection: ServerConnection) -> None:
        if "resume" in str(await connection.recv()):
            await connection.send(to_json(SessionResumed(session="s", received=0, event=1)))
            await connection.send(ENDED)
        else:
            await connection.send(STARTED)
        await connection.wait_closed()

    async def run() -> int:
        async with bad_server(handler) as url, connect(url) as stream:
            async for _ in stream:
                pass
            return stream.resumed

    assert asyncio.run(run()) == 1


def test_who_does_not_listen_does_not_take_the_silence_for_the_servers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(liveness, "SILENT_S", 0.3)
    monkeypatch.setattr(connection, "MESSAGE_QUEUE", 4)
    monkeypatch.setattr(stream, "EVENT_QUEUE", 4)

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        for _ in range(20):
            await connection.send(STARTED)
        await connection.send(ENDED)
        await connection.wait_closed()

    async def run() -> tuple[int, int]:
        async with bad_server(handler) as url, connect(url) as stream:
            await asyncio.sleep(0.8)
            return len([event async for event in stream]), stream.resumed

    assert asyncio.run(run()) == (21, 0)


def test_16_bit_audio_survives_the_way_through_floats():
    samples = np.arange(-32_768, 32_768, dtype=np.int16)
    assert encode(samples.astype(np.float32) / 32_768, "pcm_s16le") == samples.tobytes()
    assert encode(np.float32([2.0, -2.0]), "pcm_s16le") == np.int16([32_767, -32_768]).tobytes()
