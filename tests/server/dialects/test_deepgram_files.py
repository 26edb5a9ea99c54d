"""Deepgram's interface for files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.spoken import Samples, as_file, natively, pause, words


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
    media = deepgram.DeepgramClient(api_key="s3cret", environment=environment).listen.v1.media
    file = as_file(two, "FLAC")
    answer = media.transcribe_file(request=file, model="nova-3", utterances=True, smart_format=True)
    native = natively(open_server, two.tobytes())
    (channel,) = answer.results.channels
    (best,) = channel.alternatives
    assert best.transcript == " ".join(final.text for final in native)
    told = [(word.punctuated_word, word.start, word.end, word.confidence) for word in best.words]
    assert told == words(native)
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
    stranger = deepgram.DeepgramClient(api_key="wrong", environment=environment)
    with pytest.raises(deepgram.core.api_error.ApiError) as refusal:
        stranger.listen.v1.media.transcribe_file(request=file)
    assert refusal.value.status_code == 401
