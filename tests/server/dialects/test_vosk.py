"""Vosk's protocol, by a client like the published test.py: it sends a message and waits for the reply."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.protocol.events import Command
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, as_file, at_rate, leaves_nothing_behind, native_finals, pause, words
from tests.support.wire import END, dial, packets, settles, talk

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
EOF = '{"eof" : 1}'
Reply = dict[str, Any]


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(vosk_port=0)) as server:
        yield server


@pytest.fixture
def two(brief: Callable[[str], Samples]) -> Samples:
    """Two utterances."""
    return np.concatenate([brief("george"), pause(1.2), brief("jackson"), pause(0.4)])


def address(server: RunningServer) -> str:
    return f"ws://127.0.0.1:{server.vosk_port}"


def config(**fields: Any) -> str:
    return json.dumps({"config": fields})


async def lock_step(
    url: str, messages: list[str | bytes], last: str = EOF, **options: Any
) -> tuple[list[Reply], int | None]:
    """The reply to each binary message, then the one to `last`; and how the server closes."""
    replies: list[Reply] = []
    async with dial(url, **options) as websocket:
        for message in messages:
            await websocket.send(message)
            if isinstance(message, bytes) or "reset" in message:
                replies.append(json.loads(await websocket.recv()))
        await websocket.send(last)
        replies.append(json.loads(await websocket.recv()))
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        return replies, websocket.close_code


def run(server: RunningServer, messages: list[str | bytes], last: str = EOF) -> list[Reply]:
    replies, code = asyncio.run(lock_step(address(server), messages, last))
    assert code == 1000
    return replies


def results(replies: list[Reply]) -> list[Reply]:
    """The finals with text; a reply is either a partial or a final."""
    assert all(("partial" in reply) != ("text" in reply) for reply in replies)
    return [reply for reply in replies if reply.get("text")]


def test_each_final_is_the_reply_to_the_audio_that_ends_it(server: RunningServer, two: Samples):
    native = native_finals(server, two.tobytes())
    assert len(native) == 2
    replies = run(server, [config(sample_rate=16_000), *packets(two.tobytes(), 6_400)])
    assert len(replies) == len(packets(two.tobytes(), 6_400)) + 1
    finals = results(replies)
    assert [final["text"] for final in finals] == [final.text for final in native]
    timed_words = [
        (word["word"], word["start"], word["end"], word["conf"]) for final in finals for word in final["result"]
    ]
    assert timed_words == words(native)
    at = replies.index(finals[0])
    assert abs(at * 0.2 - native[0].end) < 1  # and not at the end
    assert replies[0] == {"partial": ""}
    assert any(reply["partial"] for reply in replies[:at])
    assert "partial" in replies[at + 1]


@pytest.mark.parametrize("last", ['{"eof" : 1}', '{"eof": 1}', '{"eof":1}', '{"eof":true}', '{\n "eof" : 1.0 }'])
def test_every_spelling_of_eof(server: RunningServer, last: str, brief: Callable[[str], Samples]):
    data = brief("george").tobytes()[:32_000]
    replies = run(server, [config(sample_rate=16_000.0), data], last)
    assert [reply["text"] for reply in results(replies)] == [final.text for final in native_finals(server, data)]
    assert "result" in replies[-1]


def test_empty_audio_and_silence_have_empty_results(server: RunningServer):
    assert run(server, []) == [{"text": ""}]
    assert run(server, [b"", bytes(20)]) == [{"partial": ""}, {"partial": ""}, {"text": ""}]
    silence = run(server, packets(bytes(64_000), 3_200))
    assert silence == [{"partial": ""}] * 20 + [{"text": ""}]


def test_reset_ends_an_utterance_and_not_the_connection(server: RunningServer, brief: Callable[[str], Samples]):
    data = brief("george").tobytes()
    replies = run(server, [config(sample_rate=16_000), data, '{"reset" : 1}', '{"reset":1}', data])
    assert [reply.get("text") is None for reply in replies] == [True, False, False, True, False]
    assert replies[1]["text"] == replies[4]["text"] != ""
    assert replies[2] == {"text": ""}
    assert replies[4]["result"][0]["start"] > len(data) / 32_000  # times continue


def test_settings_count_until_the_first_audio(server: RunningServer, brief: Callable[[str], Samples]):
    data = brief("george").tobytes()
    plain = config(sample_rate=16_000), config(words=0, model="/some/where", novelty=1)
    replies = run(server, [*plain, data, config(sample_rate=8_000, words=1), data])
    assert list(replies[-1]) == ["text"]
    (native,) = native_finals(server, data + data)[-1:]
    assert replies[-1]["text"].endswith(native.text)
    (alternatives,) = run(server, [config(sample_rate=16_000, max_alternatives=3), data])[-1:]
    (best,) = alternatives["alternatives"]
    assert best["text"] == native_finals(server, data)[0].text
    assert set(best["result"][0]) == {"word", "start", "end"}
    empty = run(server, [config(max_alternatives=1)])
    assert empty == [{"alternatives": [{"text": "", "confidence": 1.0}]}]


def test_the_servers_rate_is_the_default(server: RunningServer, brief: Callable[[str], Samples]):
    data = at_rate(brief("george"), 8_000).tobytes()
    native = native_finals(server, data, '{"type":"start","sample_rate":8000}')
    assert results(run(server, packets(data, 3_200)))[-1]["text"] == native[-1].text


@pytest.mark.parametrize("size", [64_000, 10])
def test_a_wav_header_is_no_audio(server: RunningServer, brief: Callable[[str], Samples], size: int):
    samples = brief("george")
    file = as_file(samples)
    messages: list[str | bytes] = [*packets(file[:50], size), *packets(file[50:], 64_000)]
    replies = run(server, messages)  # the header's rate, not the server's
    (native,) = native_finals(server, samples.tobytes())
    assert replies[-1]["text"] == native.text
    assert replies[-1]["result"][0]["start"] == native.words[0].start


def commands(server: RunningServer, data: bytes, **settings: Any) -> list[Command]:
    start = json.dumps({"type": "start", "config": settings})
    received = asyncio.run(talk(server.url, [start, *packets(data), END]))
    return [event for event in received.events if isinstance(event, Command)]


def test_a_phrase_list_is_the_grammar_of_its_words(server: RunningServer, brief: Callable[[str], Samples]):
    data = np.concatenate([brief("george"), pause(1.2), brief("jackson")]).tobytes()
    replies = run(server, [config(sample_rate=16_000, phrase_list=[" ".join(DIGITS), "1234"]), *packets(data, 9_600)])
    grammar = f"said: (words: ({' | '.join(DIGITS)})+)"
    native = commands(server, data, grammar=grammar, hotwords=DIGITS)
    assert len(native) == 2
    assert [final["text"] for final in results(replies)] == [command.text.lower() for command in native]
    timed_words = [
        (one["word"], one["start"], one["end"], one["conf"]) for each in results(replies) for one in each["result"]
    ]
    assert timed_words == [
        (word.word.lower(), word.start, word.end, word.confidence) for one in native for word in one.words
    ]
    partials = [reply["partial"] for reply in replies if reply.get("partial")]
    assert partials
    assert set(" ".join(partials).split()) <= set(DIGITS)  # in the spelling of the list


def test_words_outside_the_phrase_list_are_unknown_or_omitted(server: RunningServer, brief: Callable[[str], Samples]):
    data = brief("george").tobytes()
    spoken_words = [word.word.lower() for word in native_finals(server, data)[0].words]
    listed = spoken_words[1]
    assert spoken_words[:3] == ["one", "two", "nine"]
    (reply,) = run(server, [config(sample_rate=16_000, phrase_list=[listed, "[unk]"]), data])[-1:]
    assert reply["text"] == "[unk] two [unk]"
    first, second, third = reply["result"]
    assert first["start"] < first["end"] <= second["start"] < second["end"] <= third["start"] < third["end"]
    assert all(0 < word["conf"] <= 1 for word in reply["result"])
    (reply,) = run(server, [config(sample_rate=16_000, phrase_list=[listed]), data])[-1:]
    assert [word["word"] for word in reply["result"]] == [reply["text"]] == [listed]
    nothing = config(sample_rate=16_000, phrase_list=["yes", "no"], max_alternatives=2), data
    assert run(server, [*nothing])[-1] == {"alternatives": [{"text": "", "confidence": 1.0}]}
    assert run(server, [config(phrase_list=["[unk]"]), *packets(bytes(64_000), 16_000)])[-1] == {"text": ""}


def test_alternatives_of_a_phrase_list(server: RunningServer, brief: Callable[[str], Samples]):
    listening = config(sample_rate=16_000, phrase_list=list(DIGITS), max_alternatives=2)
    best, other = run(server, [listening, brief("george").tobytes()])[-1]["alternatives"]
    assert " ".join(word["word"] for word in best["result"]) == best["text"]
    assert set(other["text"].split()) <= set(DIGITS)
    assert other["text"] != best["text"]
    assert 0 < other["confidence"] <= best["confidence"]


def test_a_phrase_list_too_long_for_a_grammar_filters_words(server: RunningServer, brief: Callable[[str], Samples]):
    data, letters = brief("george").tobytes(), "efghinorstuvwxz"  # every word that the vocabulary can spell
    more = ["".join(word) for word in itertools.islice(itertools.product(letters, repeat=4), 5_000)]
    (reply,) = run(server, [config(sample_rate=16_000, phrase_list=[*DIGITS, *more]), data])[-1:]
    assert reply["text"] == native_finals(server, data)[0].text.lower()


def test_a_client_that_sends_all_before_it_reads_gets_a_reply_to_each(server: RunningServer, two: Samples):
    async def scene() -> list[Reply]:
        async with dial(address(server), max_queue=4) as websocket:
            await websocket.send(config(sample_rate=16_000))
            for packet in packets(two.tobytes(), 640):
                await websocket.send(packet)
            await websocket.send(EOF)
            return [json.loads(message) async for message in websocket]

    replies = asyncio.run(scene())
    assert len(replies) == len(packets(two.tobytes(), 640)) + 1
    native = native_finals(server, two.tobytes())
    assert [reply["text"] for reply in results(replies)] == [final.text for final in native]


@pytest.mark.parametrize(
    "message",
    ["hello", "[1]", "{}", '{"config":7}', config(sample_rate="fast"), '{"partial":""}'],
)
def test_other_text_closes_the_connection(server: RunningServer, message: str):
    async def scene() -> int | None:
        async with dial(address(server)) as websocket:
            await websocket.send(message)
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            return websocket.close_code

    assert asyncio.run(scene()) == 1011


def test_unknown_settings_are_not_stored(server: RunningServer):
    async def scene() -> dict[str, Any]:
        async with dial(address(server)) as websocket:
            for number in range(9):
                await websocket.send(config(words=0, **{f"other {number}": "x" * 9_999}))
            await websocket.send(bytes(3_200))
            await websocket.recv()
            (stream,) = server.sessions._open.values()
            return stream._options  # type: ignore[attr-defined]

    assert settles(lambda: server.sessions.streams, 0)  # those of the tests before
    assert asyncio.run(scene()) == {"words": 0}


@pytest.mark.parametrize("rate", [1, 1e300, "inf", "nan"])
def test_an_impossible_rate_closes_the_connection_with_the_reason(server: RunningServer, rate: float | str):
    with pytest.raises(ConnectionClosed, match="sample_rate is"):
        asyncio.run(lock_step(address(server), [config(sample_rate=rate), bytes(3_200)]))


def test_clients_that_leave_without_closing_or_before_their_reply(server: RunningServer, two: Samples):
    async def leave(last: list[str]) -> None:
        websocket = await dial(address(server))
        for message in [config(sample_rate=16_000), *packets(two.tobytes()[:64_000], 3_200), *last]:
            await websocket.send(message)
        websocket.transport.abort()

    with leaves_nothing_behind(server):
        asyncio.run(leave([]))
        asyncio.run(leave([EOF]))


def test_any_path_on_the_port_for_vosk_and_one_on_the_other(server: RunningServer):
    main = f"ws://127.0.0.1:{server.port}"
    for url in (address(server) + "/some/path", main, main + "/"):
        assert asyncio.run(lock_step(url, [bytes(3_200)])) == ([{"partial": ""}, {"text": ""}], 1000)
    assert (
        asyncio.run(lock_step(main, [b""], subprotocols=["ws"]))[1] == 1000
    )  # Asterisk offers these; none is accepted
    with pytest.raises(InvalidStatus):
        asyncio.run(lock_step(main + "/some/path", []))


def test_accepted_audio_is_finished_when_the_server_stops(recognizer: Recognizer, brief: Callable[[str], Samples]):
    async def scene(server: RunningServer) -> tuple[list[Reply], int | None]:
        async with dial(f"ws://127.0.0.1:{server.port}") as websocket:
            await websocket.send(config(sample_rate=16_000))
            await websocket.send(brief("george").tobytes())
            replies = [json.loads(await websocket.recv())]
            asyncio.run_coroutine_threadsafe(server.sessions.drain(20), server.loop)
            replies.append(json.loads(await websocket.recv()))
            with pytest.raises(ConnectionClosedError):  # not a normal end
                await websocket.recv()
            return replies, websocket.close_code

    with running_server(recognizer) as server:
        replies, code = asyncio.run(scene(server))
        assert settles(lambda: server.sessions.count, 0)
    assert code == 1012
    assert len(replies) == 2
    assert replies[1]["text"]


def test_a_wav_with_a_long_list_chunk(server: RunningServer, two: Samples):
    file = as_file(two)
    tags = b"LIST" + (100_001).to_bytes(4, "little") + b"#" * 100_001 + b"\0"  # odd, so padded
    at = file.index(b"data")
    replies, _ = asyncio.run(lock_step(address(server), [*packets(file[:at] + tags + file[at:], 8_000)]))
    text = " ".join(reply["text"] for reply in replies if reply.get("text"))
    assert text == " ".join(final.text for final in native_finals(server, two.tobytes()))


def test_a_ticket_in_the_address_where_the_server_has_a_token(recognizer: Recognizer):
    with running_server(recognizer, ServerSettings(vosk_port=0, token="s3cret")) as server:
        with pytest.raises(InvalidStatus) as refusal:
            asyncio.run(lock_step(address(server), []))
        assert refusal.value.response.status_code == 401
        assert b"?ticket=" in (refusal.value.response.body or b"")
        headers = {"Authorization": "Bearer s3cret"}
        url = f"http://127.0.0.1:{server.port}/v1/ticket"
        ticket = httpx.post(url, headers=headers, timeout=60).json()["ticket"]
        replies = asyncio.run(lock_step(f"{address(server)}/?ticket={ticket}", [bytes(3_200)]))
        assert replies == ([{"partial": ""}, {"text": ""}], 1000)
