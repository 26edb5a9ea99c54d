"""The websocket client with a real server; `test_bad_servers` covers failures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.remote.pcm import encode
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.audio.decoder import AudioDecoder
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.errors import AudioError, ConfigError
from xlsr_live.streaming.protocol.events import (
    Command,
    Event,
    Final,
    Rejected,
    SessionEnded,
    SessionStarted,
    Shared,
)
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.bad_server import bad_server
from tests.support.paths import CLIPS
from tests.support.remote_client import transcribe_remotely


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(token="open sesame")) as server:
        yield server


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def test_finals_equal_those_of_the_recognizer(server: RunningServer, recognizer: Recognizer, clip):
    events = asyncio.run(transcribe_remotely(server.url, clip("george")))
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


def test_a_session_is_shared_renamed_and_shared_no_more(server: RunningServer, clip):
    def shown(link: str) -> str:
        """What a viewer has at first."""
        page, key = link.split("#")
        assert httpx.get(page, headers={"accept": "text/html"}, timeout=60).status_code == 200
        with httpx.stream("GET", page.replace("/view", f"/v1/shared/{key}"), timeout=60) as response:
            assert response.status_code == 200
            return next(line for line in response.iter_lines() if line.startswith("data:"))

    async def run() -> list[str]:
        async with connect(server.url, token="open sesame") as stream:
            events = aiter(stream)
            links: list[str] = []

            async def shared() -> None:
                while not isinstance(await anext(events), Shared):
                    pass

            assert stream.share_link is None
            await stream.share("A talk")
            await shared()
            links.append(stream.share_link or "")
            assert '"A talk"' in await asyncio.to_thread(shown, links[0])
            await stream.share("The talk")
            await shared()
            assert stream.share_link == links[0]
            assert '"The talk"' in await asyncio.to_thread(shown, links[0])
            await stream.unshare()
            await shared()
            assert stream.share_link is None
            await stream.share()
            await shared()
            links.append(stream.share_link or "")
            await asyncio.to_thread(shown, links[1])
            with pytest.raises(ConfigError, match="at most 200"):
                await stream.share("x" * 201)
            await stream.end()
            assert [type(event) async for event in events][-1] is SessionEnded
            assert stream.share_link is None
            return links

    first, second = asyncio.run(run())
    assert first.startswith(f"http://127.0.0.1:{server.port}/view#")
    assert first != second
    gone = httpx.get(first.replace("/view#", "/v1/shared/"), timeout=60)
    assert gone.status_code == 404


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

    texts = [final.text for final in finals(asyncio.run(run()))]
    assert texts == ["ONE TWO NINES FOUR EIGHT ONE", "ONE TWO NINE FOUR EIGHT ONE"]


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
        asyncio.run(transcribe_remotely(server.url, clip("george"), token="open barley"))
    assert (problem.value.code, problem.value.status) == ("unauthorized", 401)


def test_a_refusal_has_the_text_of_the_server(recognizer: Recognizer):
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
        asyncio.run(transcribe_remotely(server.url.replace("stream", "steam"), clip("george")))


def test_leaving_early_is_not_an_error(server: RunningServer):
    async def run() -> Event:
        async with connect(server.url, token="open sesame") as stream:
            async for event in stream:
                return event
        raise AssertionError("no event")

    assert isinstance(asyncio.run(run()), SessionStarted)


def received(audio: AudioFormat, *packets: bytes | bytearray | memoryview | NDArray[np.floating]) -> list[bytes]:
    """The bytes that a server receives for packets."""
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
def test_arrays_that_a_local_session_refuses_are_not_sent(audio: AudioFormat, samples: NDArray[np.floating]):
    with pytest.raises(AudioError) as here:
        AudioDecoder(audio).receive(samples)
    with pytest.raises(AudioError) as there:
        received(audio, samples)
    assert str(there.value) == str(here.value)


def test_arrays_are_not_sent_as_g711():
    with pytest.raises(AudioError, match="not as mulaw; send bytes"):
        received(AudioFormat(encoding="mulaw"), np.zeros(4, np.float32))


def test_16_bit_audio_survives_conversion_through_floats():
    samples = np.arange(-32_768, 32_768, dtype=np.int16)
    assert encode(samples.astype(np.float32) / 32_768, "pcm_s16le") == samples.tobytes()
    assert encode(np.float32([2.0, -2.0]), "pcm_s16le") == np.int16([32_767, -32_768]).tobytes()
