"""Deepgram's interface for files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.protocol.events import Final
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, as_file, at_rate, native_finals, pause, words


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(token="s3cret")) as server:
        yield server


@pytest.fixture(scope="module")
def open_server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture
def two(brief: Callable[[str], Samples]) -> Samples:
    return np.concatenate([brief("george"), pause(1.5), brief("jackson"), pause(1.5)])


def test_a_file_by_the_official_client(server: RunningServer, open_server: RunningServer, two: Samples):
    deepgram = pytest.importorskip("deepgram", reason="deepgram-sdk, the official client, is not installed")
    place = f"http://127.0.0.1:{server.port}"
    environment = deepgram.DeepgramClientEnvironment(base=place, production=place, agent=place, agent_rest=place)
    with httpx.Client(timeout=60) as connections:
        client = deepgram.DeepgramClient(api_key="s3cret", environment=environment, httpx_client=connections)
        check_media(deepgram, client.listen.v1.media, two, native_finals(open_server, two.tobytes()))
        stranger = deepgram.DeepgramClient(api_key="wrong", environment=environment, httpx_client=connections)
        with pytest.raises(deepgram.core.api_error.ApiError) as refusal:
            stranger.listen.v1.media.transcribe_file(request=as_file(two, "FLAC"))
        assert refusal.value.status_code == 401


def check_media(deepgram: Any, media: Any, two: Samples, native: list[Final]) -> None:
    file = as_file(two, "FLAC")
    answer = media.transcribe_file(request=file, model="nova-3", utterances=True, smart_format=True)
    (channel,) = answer.results.channels
    (best,) = channel.alternatives
    assert best.transcript == " ".join(final.text for final in native)
    timed_words = [(word.punctuated_word, word.start, word.end, word.confidence) for word in best.words]
    assert timed_words == words(native)
    assert [(one.transcript, one.start, one.end, one.confidence) for one in answer.results.utterances] == [
        (final.text, final.start, final.end, final.confidence) for final in native
    ]
    assert answer.metadata.duration == pytest.approx(len(two) / 16_000, abs=0.001)
    assert answer.metadata.sha256 == hashlib.sha256(file).hexdigest()
    assert (answer.metadata.channels, len(answer.metadata.models)) == (1, 1)
    silence = media.transcribe_file(request=as_file(pause(1)))
    assert (silence.results.channels[0].alternatives[0].transcript, silence.results.utterances) == ("", None)
    with pytest.raises(deepgram.BadRequestError) as refusal:
        media.transcribe_file(request=b"no audio")
    assert set(refusal.value.body) == {"err_code", "err_msg", "request_id"}
    with pytest.raises(deepgram.BadRequestError):
        media.transcribe_url(url="https://example.org/talk.wav")


@pytest.mark.parametrize(
    ("encoding", "subtype", "native"), [("linear16", "PCM_16", "pcm_s16le"), ("mulaw", "ULAW", "mulaw")]
)
def test_a_file_of_raw_samples(
    open_server: RunningServer, brief: Callable[[str], Samples], encoding: str, subtype: str, native: str
):
    samples = at_rate(brief("george"), 8_000)
    raw = as_file(samples, "RAW", 8_000, subtype=subtype)
    (final,) = native_finals(open_server, raw, json.dumps({"type": "start", "encoding": native, "sample_rate": 8_000}))

    def transcript(body: bytes, **query: Any) -> str:
        url = f"http://127.0.0.1:{open_server.port}/v1/listen"
        answer = httpx.post(url, content=body, params=query, timeout=60).json()
        return answer["results"]["channels"][0]["alternatives"][0]["transcript"]

    assert transcript(raw, encoding=encoding, sample_rate=8_000) == final.text
    file = as_file(samples, "WAV", 8_000, subtype=subtype)
    assert transcript(file, encoding=encoding, sample_rate=16_000) == final.text  # the header takes precedence
    if encoding == "linear16":
        assert transcript(raw + b"x", encoding=encoding, sample_rate=8_000) == final.text


def test_raw_samples_must_be_declared(open_server: RunningServer):
    url = f"http://127.0.0.1:{open_server.port}/v1/listen"
    assert httpx.post(url, content=bytes(32_000), timeout=60).status_code == 400
    query = {"encoding": "linear16", "sample_rate": "abc"}
    answer = httpx.post(url, content=bytes(32_000), params=query, timeout=60)
    assert (answer.status_code, answer.json()["err_msg"]) == (400, "sample_rate is 'abc'; it must be 8000 to 96000")
