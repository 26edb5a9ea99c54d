"""The native websocket over a real server with a real model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.protocol.events import (
    Command,
    Error,
    Event,
    Final,
    Partial,
    Rejected,
    SessionEnded,
    SessionStarted,
    Warning,
    from_json,
)
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import leaves_nothing_behind
from tests.support.wire import END, Conversation, Message, dial, listen, packets, talk

Clip = Callable[[str], NDArray[np.int16]]


@pytest.fixture(scope="module")
def server(recognizer: Recognizer, clip: Clip) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(resume_grace_s=0)) as server:
        asyncio.run(talk(server.url, [clip("george").tobytes(), END]))  # create what the server creates on first use
        yield server


@pytest.fixture(name="leaves_nothing_behind")
def _leaves_nothing_behind(server: RunningServer) -> Iterator[None]:
    with leaves_nothing_behind(server):
        yield


def start(**fields: object) -> str:
    return json.dumps({"type": "start", **fields})


async def in_process(recognizer: Recognizer, data: bytes, config: SessionConfig, audio: AudioFormat) -> list[Final]:
    finals: list[Final] = []
    async with recognizer.session(config, audio) as session:

        async def feed() -> None:
            await session.send(data)
            await session.end()

        feeding = asyncio.create_task(feed())
        async for event in session:
            if isinstance(event, Final):
                finals.append(event)
        await feeding
    return finals


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def test_a_session_continues_after_a_failed_step_and_ends_with_1011(
    server: RunningServer, recognizer: Recognizer, clip: Clip, monkeypatch: pytest.MonkeyPatch
):
    audio = clip("george").tobytes()
    run, failures = recognizer.engine._calls._started, iter([RuntimeError("lost")])

    def failing(*batch: Any) -> Any:
        for error in failures:
            raise error
        return run(*batch)

    monkeypatch.setattr(recognizer.engine._calls, "_started", failing)

    async def scene() -> tuple[list[Event], int | None, str | None]:
        async with dial(server.url) as websocket:
            await websocket.send(audio)
            while not isinstance(from_json(await websocket.recv()), Error):
                pass
            await websocket.send('{"type":"flush"}')
            await websocket.send(audio)
            await websocket.send(END)
            return await listen(websocket), websocket.close_code, websocket.close_reason

    events, code, reason = asyncio.run(scene())
    assert finals(events)[-1].text == "ONE TWO NINE FOUR EIGHT ONE"
    assert (code, reason) == (1011, "encoder_failed")


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_a_whole_session(server: RunningServer, recognizer: Recognizer, clip: Clip):
    received = asyncio.run(talk(server.url, [start(), *packets(clip("george").tobytes()), END]))
    assert isinstance(received.events[0], SessionStarted)
    assert received.events[0].model == recognizer.info.name
    assert isinstance(received.events[-1], SessionEnded)
    assert any(isinstance(event, Partial) for event in received.events)
    assert " ".join(received.finals) == "ONE TWO NINE FOUR EIGHT ONE"
    assert (received.code, received.errors) == (1000, [])


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_eight_clients_at_once_each_get_their_own(server: RunningServer, recognizer: Recognizer, clip: Clip):
    voices = [clip("george"), clip("jackson"), clip("nicolas")]
    pieces = [*voices, *(voice[:48_000] for voice in voices), *(voice[32_000:] for voice in voices)]
    every = [samples.tobytes() for samples in pieces[:8]]

    async def together() -> list[Conversation]:
        return await asyncio.gather(*(talk(server.url, [*packets(data), END]) for data in every))

    received = asyncio.run(together())
    assert len({" ".join(one.finals) for one in received}) == 8
    for data, one in zip(every, received, strict=True):
        assert finals(one.events) == asyncio.run(in_process(recognizer, data, SessionConfig(), AudioFormat()))
        assert (one.code, one.errors) == (1000, [])


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_settings_apply_to_their_session_only(server: RunningServer, clip: Clip):
    data = packets(clip("jackson").tobytes())

    async def together() -> list[Conversation]:
        silent = start(config={"partials": False, "vad": "none"})
        return await asyncio.gather(talk(server.url, [silent, *data, END]), talk(server.url, [*data, END]))

    silent, usual = asyncio.run(together())
    assert not [event for event in silent.events if isinstance(event, Partial)]
    assert [event for event in usual.events if isinstance(event, Partial)]


@pytest.mark.usefixtures("leaves_nothing_behind")
@pytest.mark.parametrize(
    ("encoding", "rate", "channels"), [("pcm_f32le", 16_000, 1), ("pcm_s16le", 16_000, 2), ("pcm_s16le", 48_000, 1)]
)
def test_other_kinds_of_audio(server: RunningServer, clip: Clip, encoding: str, rate: int, channels: int):
    samples = np.repeat(clip("george"), channels * rate // 16_000)
    data = samples.tobytes() if encoding == "pcm_s16le" else (samples / np.float32(32_768)).astype("<f4").tobytes()
    first = start(encoding=encoding, sample_rate=rate, channels=channels)
    received = asyncio.run(talk(server.url, [first, *packets(data, 4_001), END]))  # a size that splits samples
    assert " ".join(received.finals) == "ONE TWO NINE FOUR EIGHT ONE"


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_flush_ends_an_utterance_and_not_the_session(server: RunningServer, clip: Clip):
    one, two = clip("george").tobytes(), clip("jackson").tobytes()
    flush = '{"type":"flush"}'
    received = asyncio.run(talk(server.url, [start(config={"vad": "none"}), one, flush, flush, two, flush, END]))
    assert received.finals == ["ONE TWO NINE FOUR EIGHT ONE", "THREE EIGHT FOUR FIVE FIVE FOUR"]


NAN = np.full(800, np.nan, "<f4").tobytes()
FLOATS = start(encoding="pcm_f32le")


@pytest.mark.usefixtures("leaves_nothing_behind")
@pytest.mark.parametrize(
    ("messages", "code", "close"),
    [
        (["not json"], "not_json", 1007),
        (['{"type":"sing"}'], "unknown_type", 1003),
        ([start(tempo=1)], "bad_message", 1007),
        ([start(config={"hop": 1})], "bad_message", 1007),
        ([start(version=9)], "bad_version", 1003),
        ([start(sample_rate=4_000)], "bad_config", 1008),
        ([start(sample_rate=200_000)], "bad_config", 1008),
        ([start(config={"hop_ms": 21})], "bad_config", 1008),
        ([FLOATS, NAN], "bad_audio", 1007),
        ([bytes(6), END], "audio_too_short", 1007),
        ([start(), start()], "unexpected_message", 1008),
        ([bytes((1 << 20) + 2)], "message_too_large", 1009),
    ],
)
def test_bad_input_is_one_clear_error(server: RunningServer, messages: list[Message], code: str, close: int):
    received = asyncio.run(talk(server.url, messages))
    assert received.errors == [code]
    assert (received.code, received.reason) == (close, code)


@pytest.mark.usefixtures("leaves_nothing_behind")
@pytest.mark.parametrize(
    ("last", "code"),
    [
        (["not json"], "not_json"),
        ([start()], "unexpected_message"),
        ([b"\1", END], "truncated_sample"),
        ([bytes((1 << 20) + 2)], "message_too_large"),
    ],
)
def test_audio_accepted_before_an_error_is_finished(server: RunningServer, clip: Clip, last: list[Message], code: str):
    received = asyncio.run(talk(server.url, [*packets(clip("george").tobytes()), *last]))
    assert received.errors == [code]
    assert " ".join(received.finals) == "ONE TWO NINE FOUR EIGHT ONE"
    assert isinstance(received.events[-1], SessionEnded)


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_a_packet_with_nan_is_refused_completely(server: RunningServer, clip: Clip):
    floats = (clip("george") / np.float32(32_768)).astype("<f4").tobytes()
    received = asyncio.run(talk(server.url, [FLOATS, *packets(floats), NAN, *packets(floats)]))
    assert received.errors == ["bad_audio"]
    assert " ".join(received.finals) == "ONE TWO NINE FOUR EIGHT ONE"


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_a_huge_frame_is_never_read(server: RunningServer):
    received = asyncio.run(talk(server.url, [bytes(3_200), bytes(100 << 20)]))
    assert received.code == 1009
    assert received.reason is not None
    assert "104857600" in received.reason


@pytest.mark.usefixtures("leaves_nothing_behind")
@pytest.mark.parametrize("how", ["abort", "close"])
def test_a_client_that_vanishes_leaves_nothing(server: RunningServer, clip: Clip, how: str):
    async def scene() -> None:
        websocket = await dial(server.url)
        for packet in packets(clip("george").tobytes()[:96_000]):
            await websocket.send(packet)
        async for message in websocket:
            if isinstance(from_json(message), Partial):
                break
        if how == "abort":
            websocket.transport.abort()
        else:
            await websocket.close()

    asyncio.run(scene())


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_a_client_that_sends_all_before_it_reads_gets_all(server: RunningServer, clip: Clip):
    data = np.concatenate([clip("george"), np.zeros(16_000, np.int16)] * 4).tobytes()

    async def scene() -> list[Event]:
        async with dial(server.url, max_queue=1) as websocket:
            for packet in packets(data, 64_000):
                await websocket.send(packet)
            await websocket.send(END)
            return await listen(websocket)

    events = asyncio.run(scene())
    assert [event.text for event in finals(events)] == ["ONE TWO NINE FOUR EIGHT ONE"] * 4


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_hotwords_change_in_mid_stream_and_bad_ones_change_nothing(server: RunningServer, clip: Clip):
    data = clip("george").tobytes()
    sent = [
        json.dumps({"type": "hotwords", "phrases": phrases})
        for phrases in (["TWO NINES:3"], ["17"], ["TWO:99"], ["TWO"] * 101)
    ]
    received = asyncio.run(talk(server.url, [start(), data[:32_000], *sent, data[32_000:], END]))
    warnings = [event for event in received.events if isinstance(event, Warning)]
    assert [event.code for event in warnings] == ["bad_config"] * 3
    assert "has no 1 7" in warnings[0].message
    assert received.finals == ["ONE TWO NINES FOUR EIGHT ONE"]
    assert (received.code, received.errors) == (1000, [])
    refused = asyncio.run(talk(server.url, [start(config={"hotwords": ["17"]}), data, END]))
    assert (refused.code, refused.errors) == (1008, ["bad_config"])


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_a_grammar_of_the_start_and_others_in_mid_stream(server: RunningServer, clip: Clip):
    data, flush = clip("george").tobytes(), '{"type":"flush"}'
    grammars = ["digits: (digits: <digits>)", "other: three two one", "bad: (one\n", "bad: one\nworse: two <no>", ""]
    one, other, bad, worse, none = (json.dumps({"type": "grammar", "text": text}) for text in grammars)
    sent = [start(config={"vad": "none", "grammar": "line: one two nine (rest: four eight one)"}), data, flush]
    sent += [one, data, flush, bad, worse, data, flush, other, data, flush, none, data, flush, END]
    received = asyncio.run(talk(server.url, sent))
    assert (received.code, received.errors, len(received.finals)) == (1000, [], 5)
    commands = [event for event in received.events if isinstance(event, Command | Rejected)]
    assert [(e.command, e.slots) if isinstance(e, Command) else e.reason for e in commands] == [
        ("line", {"rest": "four eight one"}),
        ("digits", {"digits": "129481"}),
        ("digits", {"digits": "129481"}),
        "unmatched",
    ]
    warnings = [event for event in received.events if isinstance(event, Warning)]
    assert [event.code for event in warnings] == ["bad_grammar"] * 2
    assert warnings[0].message.startswith("line 2, column 1: ")
    assert warnings[1].message == "line 2, column 12: there is no rule <no>"


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_a_bad_grammar_starts_no_session(server: RunningServer, clip: Clip):
    for grammar, why in (
        ("a: two zap", "line 1, column 8"),
        ("a: b{2}{3}{4}", "cannot write"),
        ("#" * 20_001, "20001"),
    ):
        received = asyncio.run(talk(server.url, [start(config={"grammar": grammar}), clip("george").tobytes(), END]))
        assert (received.code, received.reason, received.errors) == (1008, "bad_grammar", ["bad_grammar"])
        (error,) = received.events
        assert isinstance(error, Error)
        assert why in error.message


@pytest.mark.usefixtures("leaves_nothing_behind")
def test_the_server_decides_about_a_language_model_in_partials(
    server: RunningServer, recognizer: Recognizer, clip: Clip
):
    messages = [start(config={"lm_for": "all"}), clip("george").tobytes(), END]
    refused = asyncio.run(talk(server.url, messages))
    assert (refused.code, refused.errors, refused.finals) == (1008, ["bad_config"], [])
    with running_server(recognizer, ServerSettings(lm_partials=True)) as other:  # which has no language model
        received = asyncio.run(talk(other.url, messages))
    assert ["needs a language model" in event.message for event in received.events if isinstance(event, Error)] == [
        True
    ]
