"""OpenAI's Realtime protocol: turns, by commits and by the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, at_rate, native_finals, pause
from tests.support.realtime_client import (
    CLEAR,
    COMMIT,
    COMPLETED,
    DELTA,
    MANUAL,
    UTTERANCE,
    answers,
    append,
    appended,
    at_24k,
    kinds,
    transcripts,
)


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture
def one(brief: Callable[[str], Samples]) -> bytes:
    return at_rate(brief("george"), 24_000).tobytes()


def test_manual_commits(server: RunningServer, one: bytes):
    received = answers(server, [MANUAL, *appended(one), COMMIT, *appended(one), COMMIT, COMMIT], "error")
    native = native_finals(
        server,
        one,
        '{"type":"start","sample_rate":24000,"config":{"vad":"none"}}',
    )
    assert transcripts(received)[0] == native[0].text
    assert len(transcripts(received)) == 2
    assert not [message for message in received if "speech" in message["type"]]
    problem = received[-1]["error"]
    assert (problem["code"], problem["type"]) == ("input_audio_buffer_commit_empty", "invalid_request_error")
    assert "0.00ms" in problem["message"]


def test_a_long_item_is_one_item(server: RunningServer, one: bytes):
    received = answers(server, [MANUAL, *appended(one * 8), COMMIT], COMPLETED)  # longer than an utterance may be
    assert kinds(received)[2:] == [DELTA, "input_audio_buffer.committed", *UTTERANCE[-3:]]
    native = at_24k(server, one * 8, vad="none")
    assert len(native) > 1
    assert transcripts(received) == [" ".join(final.text for final in native)]


def test_a_commit_before_the_pause(server: RunningServer, one: bytes):
    received = answers(server, [*appended(one), COMMIT, COMMIT], "error")
    assert kinds(received) == ["session.created", *UTTERANCE, "error"]
    assert transcripts(received) == [final.text for final in at_24k(server, one)]


def test_silence_and_empty_audio(server: RunningServer):
    received = answers(server, [COMMIT], "error")
    assert received[-1]["error"]["code"] == "input_audio_buffer_commit_empty"
    received = answers(server, [append(bytes(96_000)), COMMIT], COMPLETED)
    assert kinds(received) == ["session.created", *UTTERANCE[3:]]
    assert transcripts(received) == [""]


def test_clear_discards_uncommitted_audio(server: RunningServer, one: bytes):
    received = answers(server, [CLEAR, MANUAL, *appended(one), CLEAR, COMMIT, *appended(one), COMMIT], COMPLETED)
    assert [message["type"] for message in received].count("input_audio_buffer.cleared") == 2
    assert [message["error"]["code"] for message in received if message["type"] == "error"] == [
        "input_audio_buffer_commit_empty"
    ]
    assert transcripts(received) == [final.text for final in at_24k(server, one, vad="none")]


PAUSED = [1, 2, 5]  # seconds


@pytest.mark.parametrize("seconds", PAUSED)
def test_a_manual_turn_may_hold_pauses_and_end_in_silence(
    server: RunningServer, brief: Callable[[str], Samples], seconds: float
):
    turn = np.concatenate([brief("george"), pause(seconds), brief("jackson"), pause(seconds)])
    data = at_rate(turn, 24_000).tobytes()
    received = answers(server, [MANUAL, *appended(data), COMMIT, COMMIT], "error")
    assert kinds(received)[2:] == [DELTA, "input_audio_buffer.committed", *UTTERANCE[-3:], "error"]
    (text,) = transcripts(received)
    assert text == " ".join(final.text for final in at_24k(server, data, vad="none"))
    assert len(text.split()) > len(at_24k(server, at_rate(brief("george"), 24_000).tobytes(), vad="none")[0].words)


def test_a_manual_turn_is_open_until_the_commit(server: RunningServer, one: bytes):
    silence = bytes(48_000 * 3)
    received = answers(server, [MANUAL, *appended(one + silence), CLEAR, append(silence), COMMIT], COMPLETED)
    assert transcripts(received) == [""]
    assert "input_audio_buffer.committed" not in kinds(received)[: kinds(received).index("input_audio_buffer.cleared")]
