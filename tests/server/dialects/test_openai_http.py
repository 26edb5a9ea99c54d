"""OpenAI's HTTP interface, by the official client."""

from __future__ import annotations

import io
import json
import math
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from xlsr_live.client.output.formats import Srt, Vtt
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.protocol.events import Final
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, as_file, leaves_nothing_behind, native_finals, pause, words
from tests.support.serving import recorded
from tests.support.wire import settles

PATH = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture(scope="module")
def two(brief: Callable[[str], Samples]) -> Samples:
    return np.concatenate([brief("george"), pause(1.5), brief("jackson")])


@pytest.fixture(scope="module")
def native(server: RunningServer, two: Samples) -> list[Final]:
    return native_finals(server, two.tobytes())


_clients: list[Any] = []


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    yield
    while _clients:
        _clients.pop().close()


def official(server: RunningServer, key: str = "any", **options: Any) -> Any:
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=key, max_retries=0, **options)
    _clients.append(client)
    return client


def post(server: RunningServer, file: bytes = b"", **fields: Any) -> httpx.Response:
    files = {"file": ("talk.wav", file)} if file else {"nothing": ("x", b"x")}
    return httpx.post(f"http://127.0.0.1:{server.port}{PATH}", files=files, data=fields, timeout=60)


def test_every_format_by_the_official_client(server: RunningServer, two: Samples, native: list[Final]):
    text = " ".join(final.text for final in native)
    assert len(native) == 2
    client = official(server)

    def post_file(form: str, **options: Any) -> Any:
        file = ("talk.flac", as_file(two, "FLAC"))
        return client.audio.transcriptions.create(file=file, model="any", response_format=form, **options)

    assert post_file("json").text == text
    assert post_file("text") == text + "\n"
    for form, kind in (("srt", Srt), ("vtt", Vtt)):
        out = io.StringIO()
        with kind(out) as subtitles:
            subtitles.begin("talk.flac")
            for final in native:
                subtitles.show(final)
        assert post_file(form) == out.getvalue()
    verbose = post_file("verbose_json", timestamp_granularities=["word", "segment"], language="en")
    assert (verbose.text, verbose.language) == (text, "en")
    assert verbose.duration == pytest.approx(len(two) / 16_000, abs=0.001)
    assert [(one.text, one.start, one.end) for one in verbose.segments] == [
        (one.text, one.start, one.end) for one in native
    ]
    assert [math.exp(one.avg_logprob) for one in verbose.segments] == pytest.approx(
        [one.confidence for one in native], abs=1e-3
    )
    timed_words = [(one.word, one.start, one.end, one.confidence) for one in verbose.words]
    assert timed_words == words(native)
    assert post_file("verbose_json").words is None
    assert post_file("verbose_json", timestamp_granularities=["word"]).segments is None
    assert [(one.speaker, one.text) for one in post_file("diarized_json").segments] == [
        ("A", one.text) for one in native
    ]


def test_streaming_by_the_official_client(server: RunningServer, two: Samples, native: list[Final]):
    file = ("talk.wav", as_file(two))
    *deltas, done = official(server).audio.transcriptions.create(
        file=file, model="any", stream=True, include=["logprobs"]
    )
    assert [event.type for event in deltas] == ["transcript.text.delta"] * 2
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == done.text == " ".join(final.text for final in native)
    sure = [math.exp(each.logprob) for each in done.logprobs]
    assert sure == pytest.approx([word.confidence for final in native for word in final.words], abs=1e-4)


def test_a_diarized_stream_has_segments(server: RunningServer, two: Samples, native: list[Final]):
    options = {"model": "any", "response_format": "diarized_json", "stream": True}
    *pairs, done = official(server).audio.transcriptions.create(file=("talk.wav", as_file(two)), **options)
    assert [event.type for event in pairs] == ["transcript.text.delta", "transcript.text.segment"] * 2
    deltas, segments = pairs[::2], pairs[1::2]
    assert [(one.speaker, one.text, one.start, one.end) for one in segments] == [
        ("A", final.text, final.start, final.end) for final in native
    ]
    assert [one.segment_id for one in deltas] == [one.id for one in segments] == ["seg_001", "seg_002"]
    assert "".join(event.delta for event in deltas) == done.text


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
def test_unknown_granularities_are_refused(server: RunningServer, name: str):
    answer = post(server, as_file(pause(1)), **{"response_format": "verbose_json", name: "char"})
    assert answer.status_code == 400
    assert "'char' is not supported; use word or segment" in answer.json()["error"]["message"]


def test_models_by_the_official_client(server: RunningServer, recognizer: Recognizer):
    (model,) = official(server).models.list().data
    assert model.id == recognizer.info.name
    assert model.created > 0


def test_settings_of_a_session_apply_to_files(server: RunningServer, two: Samples, native: list[Final]):
    create = official(server).audio.transcriptions.create
    patient = {"type": "server_vad", "silence_duration_ms": 4_000}
    one = create(file=("a", as_file(two)), model="any", response_format="verbose_json", chunking_strategy=patient)
    assert len(one.segments) == 1
    first, second = native[0].words[1:3]
    phrase = f"{first.word} {second.word}S"
    (boosted, _) = native_finals(server, two.tobytes(), json.dumps({"type": "start", "config": {"hotwords": [phrase]}}))
    received = create(file=("a", as_file(two)), model="any", extra_body={"keywords": [phrase]})
    assert received.text.startswith(boosted.text)


def test_a_recording_of_a_browser(server: RunningServer, two: Samples, native: list[Final]):
    received = post(server, recorded(two, "webm")).json()["text"]
    assert len(received.split()) == len(words(native))


def test_silence_has_no_text(server: RunningServer):
    silence = as_file(pause(2))
    assert post(server, silence).json() == {"text": "", "usage": {"type": "duration", "seconds": 2}}
    assert post(server, silence, response_format="text").text == "\n"
    assert post(server, silence, response_format="vtt").text == "WEBVTT\n\n"
    assert post(server, silence, response_format="verbose_json").json()["segments"] == []
    assert post(server, silence, stream="true").text == 'data: {"type":"transcript.text.done","text":""}\n\n'


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        (b"", {}),
        (b"not audio at all", {}),
        (b"RIFF", {"response_format": "json"}),
        (as_file(pause(1)), {"response_format": "poem"}),
        (as_file(pause(1)), {"chunking_strategy": "sometimes"}),
        (as_file(pause(1)), {"chunking_strategy": '{"type":"server_vad","threshold":7}'}),
    ],
)
def test_mistakes_have_the_shape_of_the_original(server: RunningServer, file: bytes, fields: dict[str, str]):
    answer = post(server, file, **fields)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_stream_of_a_file_that_is_no_audio(server: RunningServer):
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    with pytest.raises(openai.APIError, match="corrupted"):
        list(official(server).audio.transcriptions.create(file=("a", b"noise"), model="any", stream=True))


def test_refused_clients(recognizer: Recognizer, two: Samples):
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    with running_server(recognizer, ServerSettings(token="s3cret", max_upload_bytes=2_000)) as server:
        create = official(server, "wrong").audio.transcriptions.create
        with pytest.raises(openai.AuthenticationError, match="token"):
            create(file=("a", b"x"), model="any")
        with pytest.raises(openai.BadRequestError, match="2000 bytes"):
            official(server, "s3cret").audio.transcriptions.create(file=("a", as_file(two)), model="any")
        foreign = {"Origin": "https://evil.example"}
        with pytest.raises(openai.PermissionDeniedError):
            official(server, "s3cret", default_headers=foreign).audio.transcriptions.create(
                file=("a", b"x"), model="any"
            )


def test_a_client_that_leaves_frees_its_slot(server: RunningServer, two: Samples):
    request = httpx.Request("POST", f"http://x{PATH}", files={"file": ("a", as_file(np.tile(two, 8)))})
    with leaves_nothing_behind(server):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + request.read())
            assert settles(lambda: server.sessions.count, 1)
        assert settles(lambda: server.sessions.count, 0)
