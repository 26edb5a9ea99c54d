"""Deepgram's live protocol: ends of utterances and of the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.deepgram_client import CLOSE_STREAM, RAW, answers, results, transcripts
from tests.support.native_reference import Samples, native_finals, pause
from tests.support.wire import packets


@pytest.fixture(scope="module")
def open_server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture
def two(brief: Callable[[str], Samples]) -> Samples:
    return np.concatenate([brief("george"), pause(1.5), brief("jackson"), pause(1.5)])


def test_endpointing_is_the_silence_that_ends_an_utterance(open_server: RunningServer, brief: Callable[[str], Samples]):
    samples = np.concatenate([brief("george"), pause(1.2), brief("jackson")])
    received = answers(open_server, [samples.tobytes(), CLOSE_STREAM], **RAW, endpointing=4_000)
    assert len(results(received)) == 1
    received = answers(open_server, [samples.tobytes(), CLOSE_STREAM], **RAW, endpointing="false")
    assert [each["speech_final"] for each in results(received)] == [False, True]


def test_finalize_is_answered_even_if_nothing_is_open(open_server: RunningServer, brief: Callable[[str], Samples]):
    data, finalize = brief("george").tobytes(), '{"type":"Finalize","channel":0}'
    received = answers(open_server, [finalize, data, finalize, finalize, data, CLOSE_STREAM], **RAW)
    (native,) = native_finals(open_server, data)
    assert [each["from_finalize"] for each in results(received)] == [True, True, True, False]
    texts = [each["channel"]["alternatives"][0]["transcript"] for each in results(received)]
    assert texts[:3] == ["", native.text, ""]
    assert texts[3]


def test_only_what_finalize_ends_is_from_it(open_server: RunningServer, brief: Callable[[str], Samples]):
    """And not an utterance before, which a pause has ended and which the model still works on."""
    samples = np.concatenate([brief("george"), pause(1.5), brief("jackson")])
    received = answers(open_server, [samples.tobytes(), '{"type":"Finalize"}', CLOSE_STREAM], **RAW)
    assert transcripts(received) == [final.text for final in native_finals(open_server, samples.tobytes())]
    assert [each["from_finalize"] for each in results(received)] == [False, True]


def test_an_empty_binary_message_closes_the_stream(open_server: RunningServer, brief: Callable[[str], Samples]):
    data = brief("george").tobytes()
    received = answers(open_server, [data, b""], **RAW)
    assert transcripts(received) == [final.text for final in native_finals(open_server, data)]
    assert [each["type"] for each in answers(open_server, [b""], **RAW)] == ["Metadata"]
    assert len(answers(open_server, [data, b"", data, CLOSE_STREAM], **RAW)) == len(received)  # the rest is ignored


UTTERANCE_END = {"interim_results": "true", "utterance_end_ms": "1000", "endpointing": "300", "vad_events": "true"}


def with_gap(server: RunningServer, brief: Callable[[str], Samples], gap_s: float) -> tuple[Samples, float]:
    """Two utterances, and the time from the last word of the first to the start of the second's speech."""
    first, second = brief("george"), brief("jackson")
    word_end = native_finals(server, first.tobytes())[0].words[-1].end
    onset = native_finals(server, second.tobytes())[0].words[0].start
    silence = gap_s - (len(first) / 16_000 - word_end) - onset
    return np.concatenate([first, pause(silence), second, pause(1.5)]), word_end


@pytest.mark.parametrize("pace_s", [0, 0.1, None])  # between packets of 0.1 s; None: all in one packet
@pytest.mark.parametrize("gap_s", [0.62, 0.7, 0.8, 0.92, 1.8])
def test_utterance_end_needs_the_whole_gap_at_any_pace(
    open_server: RunningServer, brief: Callable[[str], Samples], gap_s: float, pace_s: float | None
):
    samples, word_end = with_gap(open_server, brief, gap_s)
    messages: list[str | bytes] = [*packets(samples.tobytes(), samples.nbytes if pace_s is None else 3_200)]
    received = answers(open_server, [*messages, CLOSE_STREAM], pace_s or 0, **RAW, **UTTERANCE_END)
    ends = [each["last_word_end"] for each in received if each["type"] == "UtteranceEnd"]
    last = results(received)[-1]["channel"]["alternatives"][0]["words"][-1]["end"]
    if gap_s < 1:
        assert ends == [last]
    else:
        assert ends == [pytest.approx(word_end, abs=0.1), last]
        kinds = [each["type"] for each in received if each["type"] in ("SpeechStarted", "UtteranceEnd")]
        assert [kind for kind, _ in groupby(kinds)] == ["SpeechStarted", "UtteranceEnd"] * 2
