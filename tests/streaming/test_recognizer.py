"""The whole recognizer on recorded speech, compared with transformers.

The digits model normalises its input; the packaged one does not, so its second pass reuses features of the live steps.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import re
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC
from xlsr_live import streaming
from xlsr_live.streaming.audio.vad import make_vad
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import AudioError, EngineError
from xlsr_live.streaming.live import StreamSession
from xlsr_live.streaming.model.source import find_source
from xlsr_live.streaming.protocol.events import Event, Final, Partial, SessionEnded, SessionStarted
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.requests import CachedStep
from xlsr_live.streaming.session.session import Session

from tests.support.driving import Driver, lines, pieces, timeless, utterances
from tests.support.wire import settles

Clip = Callable[[str], np.ndarray]
SPOKEN = {
    "george": "ONE TWO NINE FOUR EIGHT ONE",
    "jackson": "THREE EIGHT FOUR FIVE FIVE FOUR",
    "nicolas": "ZERO TWO TWO FOUR SEVEN SIX ZERO",
}


class Rows:
    """The real encoder for a `Driver`; it caches answers because the same samples recur."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._encoder = recognizer.encoder
        self._known: dict[bytes, np.ndarray] = {}

    def rows(self, samples: np.ndarray, language: str | None = None) -> np.ndarray:
        key = samples.tobytes()
        if key not in self._known:
            (self._known[key],) = self._encoder.encode([samples])
        return self._known[key]

    def encode_steps(self, batch: Sequence[tuple[np.ndarray, CachedStep]]) -> list[np.ndarray]:
        return self._encoder.encode_steps(batch)

    def release(self, memory: int) -> None:
        self._encoder.release(memory)


@pytest.fixture(scope="module")
def speech(clip: Clip) -> np.ndarray:
    """Two speakers with a pause between."""
    pause = np.zeros(12_800, np.int16)
    return np.concatenate((clip("george")[:48_000], pause, clip("jackson")[:48_000])).astype(np.float32) / 32_768


@pytest.fixture(scope="module", params=["recognizer", "packaged"])
def either(request: pytest.FixtureRequest) -> Recognizer:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def transformers_text(either: Recognizer) -> Callable[[np.ndarray], str]:
    path = find_source(either.info.name).path
    model = Wav2Vec2ForCTC.from_pretrained(path).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(path)
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(path)

    def text(samples: np.ndarray) -> str:
        inputs = extractor(samples, sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            ids = model(inputs.input_values).logits.argmax(-1)[0]
        return " ".join(tokenizer.decode(ids).split())

    return text


def core(recognizer: Recognizer, config: SessionConfig) -> Session:
    return Session(
        recognizer.encoder.vocabulary,
        config,
        vad=make_vad(config.vad),
        normalized=recognizer.encoder.normalized,
        modes=recognizer.info.modes,
        lookahead_ms=recognizer.info.lookahead_ms,
        name="s",
    )


def test_sessions_have_the_lookahead_of_the_checkpoint(either: Recognizer, speech: np.ndarray):
    own = 480 if either.info.name != "bundled" else 240
    shown = {
        lookahead: [
            (event.committed, event.volatile)
            for event in either.stream(speech, SessionConfig(lookahead_ms=lookahead))
            if isinstance(event, Partial)
        ]
        for lookahead in (None, 240, 480)
    }
    assert either.info.lookahead_ms == own
    assert shown[None] == shown[own] != shown[720 - own]


SETTINGS: dict[str, dict[str, Any]] = {
    "as they come": {},
    "windows": {"mode": "window"},
    "short steps": {
        "mode": "cached",
        "hop_ms": 140,
        "lookahead_ms": 200,
        "left_context_ms": 900,
        "max_utterance_ms": 2_500,
    },
    "append": {"finals": "append", "hop_ms": 200},
    "short utterances": {"vad": "energy", "max_utterance_ms": 2_000},
    "blanks": {"vad": "webrtc", "trailing_blank_ms": 300, "finals": "append"},
    "no gate": {"vad": "none", "max_utterance_ms": 3_000, "hop_ms": 200},
    "silero, offline": {"vad": "silero", "mode": "offline"},
}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_packets_and_the_order_of_answers_change_no_event(either: Recognizer, speech: np.ndarray, name: str):
    config = SessionConfig(**SETTINGS[name])

    def events(packets: list[np.ndarray], random: Random | None) -> list[Event]:
        return Driver(core(either, config), Rows(either), random).run(packets)  # type: ignore[arg-type]

    whole = events([speech], None)
    assert [event for event in whole if isinstance(event, Final)]
    random = Random(1)
    sizes = [random.choice([1, 37, 160, 480, 1_600, 7_777]) for _ in range(1_000)]
    assert lines(events(pieces(speech, sizes), random)) == lines(whole)


@pytest.mark.parametrize("name", [name for name in SETTINGS if SETTINGS[name].get("finals") != "append"])
def test_every_final_equals_the_text_of_transformers_for_the_same_samples(
    either: Recognizer, speech: np.ndarray, name: str, transformers_text: Callable[[np.ndarray], str]
):
    events = list(either.stream(speech, SessionConfig(**SETTINGS[name])))
    found = utterances(events)
    assert len(found) >= 2
    for utterance in found:
        assert (utterance.final.text if utterance.final else "") == transformers_text(
            speech[utterance.start : utterance.end]
        )


@pytest.mark.parametrize("settings", [{}, {"vad": "none", "max_utterance_ms": 60_000}])
def test_cached_and_window_mode_have_equal_finals(either: Recognizer, speech: np.ndarray, settings: dict[str, Any]):
    def finals(mode: Any) -> list[Event]:
        events = list(either.stream(speech, SessionConfig(mode=mode, **settings)))
        assert isinstance(events[0], SessionStarted)
        assert events[0].mode == (mode or "cached")
        return [event for event in events if isinstance(event, Final)]

    assert finals(None) == finals("cached") == finals("window") != []


def test_silence_holds_no_slot(recognizer: Recognizer, speech: np.ndarray):
    stream = recognizer.stream(speech)
    while not isinstance(next(stream), Partial):
        pass
    places = recognizer.encoder.cached.caches
    assert len(places) == 1
    stream.close()
    recognizer.transcribe(speech)
    settle(recognizer)
    assert len(places) == 0


def settle(recognizer: Recognizer) -> None:
    """Wait until the engine has freed released caches."""
    deadline = time.monotonic() + 20
    while recognizer.engine._caches._released and time.monotonic() < deadline:
        time.sleep(0.01)
    recognizer.engine.submit(np.zeros(400, np.float32), deadline=0.0).result(20)


@pytest.mark.parametrize("name", list(SPOKEN))
def test_a_clip_gives_the_spoken_words(recognizer: Recognizer, clip: Clip, name: str):
    finals = recognizer.transcribe(clip(name) / np.float32(32_768))
    assert " ".join(final.text for final in finals) == SPOKEN[name]


def test_a_ticking_clock_gives_no_words(recognizer: Recognizer, clip: Clip):
    assert recognizer.transcribe(clip("clock") / np.float32(32_768)) == []


def test_parallel_sessions_have_the_events_of_single_ones(recognizer: Recognizer, clip: Clip):
    clips = [clip(name) / np.float32(32_768) for name in SPOKEN]

    async def listen(audio: np.ndarray, size: int) -> list[Event]:
        stream = StreamSession(core(recognizer, SessionConfig()), recognizer.engine, clock=lambda: 0.0)
        async with stream:
            for at in range(0, len(audio), size):
                await stream.send(audio[at : at + size])
            await stream.end()
            return [event async for event in stream]

    async def together() -> list[list[Event]]:
        return await asyncio.gather(*(listen(audio, 1_000 + 999 * i) for i, audio in enumerate(clips * 2)))

    alone = [lines(timeless(asyncio.run(listen(audio, 10**6)))) for audio in clips]
    assert [lines(timeless(events)) for events in asyncio.run(together())] == alone * 2


def test_files_arrays_and_live_audio_give_the_same_finals(recognizer: Recognizer, clip: Clip, tmp_path: Path):
    samples = clip("jackson")
    soundfile.write(tmp_path / "a.wav", samples, 16_000)

    async def live() -> list[Event]:
        async with recognizer.session() as stream:
            await stream.send(samples.tobytes())
            await stream.end()
            return [event async for event in stream]

    finals = recognizer.transcribe(tmp_path / "a.wav")
    assert finals
    assert recognizer.transcribe(samples / np.float32(32_768)) == finals
    assert [event for event in asyncio.run(live()) if isinstance(event, Final)] == finals


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (48_000, 1)])
def test_other_rates_and_channels_give_the_same_words(
    recognizer: Recognizer, clip: Clip, tmp_path: Path, rate: int, channels: int
):
    samples = soxr.resample(clip("george") / np.float32(32_768), 16_000, rate)
    soundfile.write(tmp_path / "a.flac", np.repeat(samples[:, None], channels, axis=1), rate)
    finals = recognizer.transcribe(tmp_path / "a.flac", SessionConfig(vad="webrtc"))
    text = " ".join(final.text for final in finals)
    assert text == SPOKEN["george"] if rate > 16_000 else text.count(" ") >= 4  # 8 kHz lacks half of the spectrum


def test_offline_is_one_pass_over_the_whole_audio(
    either: Recognizer, speech: np.ndarray, transformers_text: Callable[[np.ndarray], str]
):
    final = either.offline(speech)
    assert final is not None
    assert final.text == transformers_text(speech)
    assert (final.start, final.end) == (0.0, round(len(speech) / 16_000, 3))
    assert final.words[-1].end <= final.end
    assert either.offline(np.zeros(16_000, np.float32)) is None


def test_a_file_with_hotwords_and_commands_has_the_events_of_the_core(recognizer: Recognizer, speech: np.ndarray):
    config = SessionConfig(hotwords=("nine four", "three eight:3"), grammar="digits: (one | two | nine | four)+")
    driver = Driver(core(recognizer, config), Rows(recognizer))  # type: ignore[arg-type]
    assert lines(timeless(recognizer.stream(speech, config))[1:]) == lines(timeless(driver.run([speech]))[1:])


def test_a_stream_starts_shows_partials_and_ends(recognizer: Recognizer, clip: Clip):
    events = list(recognizer.stream(clip("george") / np.float32(32_768)))
    assert isinstance(events[0], SessionStarted)
    assert events[0].model == recognizer.info.name
    assert len(events[0].session) >= 8
    assert isinstance(events[-1], SessionEnded)
    assert len([event for event in events if isinstance(event, Partial)]) >= 4


def test_unusable_audio_is_refused(recognizer: Recognizer, tmp_path: Path):
    with pytest.raises(AudioError, match="no such file"):
        recognizer.transcribe(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="not finite"):
        recognizer.transcribe(np.full(8_000, np.nan, np.float32))
    for transcribe in (recognizer.offline, recognizer.transcribe):
        with pytest.raises(AudioError, match="24 ms of audio; at least 25 ms are needed") as error:
            transcribe(np.zeros(399, np.float32))
        assert error.value.code == "audio_too_short"


def test_a_failing_model_is_an_error_and_not_an_empty_transcript(clip: Clip, monkeypatch: pytest.MonkeyPatch):
    samples = clip("george") / np.float32(32_768)
    with Recognizer.load(device="cpu", lm="none") as recognizer:
        monkeypatch.setattr(recognizer.engine._calls, "_started", lambda *batch: 1 / 0)
        for transcribe in (recognizer.offline, recognizer.transcribe):
            with pytest.raises(EngineError, match=r"the model failed \(ZeroDivisionError"):
                transcribe(samples)


def test_the_example_driver_in_the_docstring_works(
    recognizer: Recognizer, clip: Clip, capsys: pytest.CaptureFixture[str]
):
    (example,) = re.findall(r"declared format:\n\n((?:    .*\n)+)", inspect.getdoc(Session) or "")
    scope = {"Session": streaming.Session, "make_vad": streaming.make_vad, "time": time}
    scope |= {"encoder": recognizer.encoder, "audio": io.BytesIO(clip("george").tobytes())}
    exec(textwrap.dedent(example), scope)
    printed = capsys.readouterr().out
    assert SPOKEN["george"] in printed
    assert printed.splitlines()[-1].startswith("SessionEnded(")


def test_an_aborted_stream_leaves_nothing_behind(recognizer: Recognizer, speech: np.ndarray):
    stream = recognizer.stream(speech)
    while not isinstance(next(stream), Partial):
        pass
    stream.close()
    assert recognizer.transcribe(speech[:48_000])
    assert settles(lambda: recognizer.engine.queued, 0)


def test_a_closed_recognizer_refuses_new_work(clip: Clip):
    with Recognizer.load(device="cpu") as recognizer:
        assert recognizer.engine.alive
    assert not recognizer.engine.alive
    codes = {getattr(event, "code", None) for event in recognizer.stream(clip("george") / np.float32(32_768))}
    assert "encoder_failed" in codes
