"""One checkpoint with an adapter for each language: sessions choose, switch and identify, over every way in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.protocol.events import Final, LanguageIdentified, Partial, SessionEnded, Warning
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.many_languages import LANGUAGES, multilingual_recognizer
from tests.support.native_reference import as_file
from tests.support.translators import LIMIT, FromGerman, service
from tests.support.wire import dial, talk

NOISE = np.random.default_rng(5).normal(0, 0.1, 16_000 * 4).astype(np.float32)
PCM = (NOISE * 32_767).astype("<i2").tobytes()
UNGATED = {"vad": "none"}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recognizer]:
    with multilingual_recognizer(tmp_path_factory.mktemp("many")) as recognizer:
        yield recognizer


@pytest.fixture(scope="module")
def server(many: Recognizer) -> Iterator[RunningServer]:
    with running_server(many) as running:
        yield running


def test_a_language_is_found_by_its_name(many: Recognizer):
    found = {
        word: {final.language for final in many.transcribe(NOISE, SessionConfig(language=word, **UNGATED))}
        for word in ("de", "German", "zh", "zh-Hans", "en-US")
    }
    codes = {"de": "deu", "German": "deu", "zh": "cmn-script_simplified", "zh-Hans": "cmn-script_simplified"}
    assert found == {word: {code} for word, code in {**codes, "en-US": "eng"}.items()}


def test_without_a_language_or_with_an_unknown_one_it_refuses(many: Recognizer):
    with pytest.raises(ConfigError, match="knows 3 languages: name the language"):
        many.transcribe(NOISE)
    with pytest.raises(ConfigError, match="has no 'xho'; it knows 3 languages"):
        many.transcribe(NOISE, SessionConfig(language="xho"))
    with pytest.raises(ConfigError, match="are one language"):
        many.transcribe(NOISE, SessionConfig(language="auto", allowed_languages=("de", "deu")))
    with pytest.raises(ConfigError, match="has no 'xho'"):
        many.transcribe(NOISE, SessionConfig(language="auto", allowed_languages=("de", "xho")))


@pytest.mark.parametrize("allowed", [("de",), tuple("abcdefghijk"), ()])
def test_auto_needs_two_to_ten_languages(allowed: tuple[str, ...]):
    with pytest.raises(ConfigError, match=f"needs 2 to 10 allowed_languages, not {len(allowed)}"):
        SessionConfig(language="auto", allowed_languages=allowed)
    with pytest.raises(ConfigError, match="needs the language 'auto'"):
        SessionConfig(language="de", allowed_languages=("de", "en"))


def test_a_recognizer_has_a_default(many: Recognizer):
    with Recognizer(many.encoder, language="auto", allowed_languages=("de", "en")) as other:
        events = list(other.stream(NOISE, SessionConfig(**UNGATED)))
    assert [type(event) for event in events].count(LanguageIdentified) == 1
    assert {event.language for event in events if isinstance(event, Final | Partial)} <= {"deu", "eng"}


def test_the_same_text_as_a_recognizer_of_one_language(many: Recognizer):
    for word in ("de", "zh"):
        config = SessionConfig(language=word, **UNGATED)
        (live,), offline = many.transcribe(NOISE, config), many.offline(NOISE, config)
        assert (live.text, live.language) == (offline.text, offline.language)


def test_offline_identifies_as_a_session_does(many: Recognizer):
    config = SessionConfig(language="auto", allowed_languages=("de", "en"), **UNGATED)
    events = list(many.stream(NOISE, config))
    (final,) = [event for event in events if isinstance(event, Final)]
    assert many.offline(NOISE, config).language == final.language


def test_the_native_protocol_switches(server: RunningServer):
    start = json.dumps({"type": "start", "config": {"language": "de", **UNGATED}})
    switch = json.dumps({"type": "set_language", "language": "zh"})
    wrong = json.dumps({"type": "set_language", "language": "xho"})
    flush, end = json.dumps({"type": "flush"}), json.dumps({"type": "end"})
    events = asyncio.run(talk(server.url, [start, PCM, flush, wrong, switch, PCM, flush, end])).events
    finals = [event for event in events if isinstance(event, Final)]
    assert [final.language for final in finals] == ["deu", "cmn-script_simplified"]
    assert [event.code for event in events if isinstance(event, Warning)] == ["bad_config"]
    for final, word in zip(finals, ("de", "zh"), strict=True):
        one = json.dumps({"type": "start", "config": {"language": word, **UNGATED}})
        alone = asyncio.run(talk(server.url, [one, PCM, flush, end])).events
        assert [event.text for event in alone if isinstance(event, Final)] == [final.text]


def test_the_native_protocol_identifies(server: RunningServer):
    config = {"language": "auto", "allowed_languages": ["de", "en", "zh"], **UNGATED}
    start, end = json.dumps({"type": "start", "config": config}), json.dumps({"type": "end"})
    events = asyncio.run(talk(server.url, [start, PCM, end])).events
    (found,) = [event for event in events if isinstance(event, LanguageIdentified)]
    assert found.language in (*LANGUAGES, "und")
    assert isinstance(events[-1], SessionEnded)


def test_openai_uploads_take_a_language(server: RunningServer, many: Recognizer, tmp_path: Path):
    import openai
    import soundfile

    soundfile.write(tmp_path / "noise.wav", NOISE, 16_000)
    http = server.url.replace("ws://", "http://").removesuffix("/stream")
    client = openai.OpenAI(base_url=http, api_key="-", max_retries=0)

    def ask(**options: object) -> openai.types.audio.TranscriptionVerbose:
        with (tmp_path / "noise.wav").open("rb") as file:
            return client.audio.transcriptions.create(file=file, model="m", response_format="verbose_json", **options)

    gated = many.transcribe(NOISE, SessionConfig(language="zh"))
    answer = ask(language="zh")
    assert answer.text == "".join(final.text for final in gated)
    assert answer.language == ("zh-Hans" if gated else "zh")
    for wrong in ({}, {"language": "xho"}):
        with pytest.raises(openai.BadRequestError, match="3 languages"):
            ask(**wrong)


def test_no_protocol_loads_a_language_in_the_event_loop(
    server: RunningServer, many: Recognizer, monkeypatch: pytest.MonkeyPatch
):
    languages = many.encoder.languages
    found: dict[str, bool] = {}  # by language, whether its first use was in the event loop
    vocabulary = languages.vocabulary

    def watched(language: str) -> Vocabulary:
        found.setdefault(language, asyncio._get_running_loop() is not None)
        return vocabulary(language)

    monkeypatch.setattr(languages, "vocabulary", watched)
    place = server.url.removeprefix("ws://").removesuffix("/v1/stream")
    realtime = {"audio": {"input": {"transcription": {"language": "de", "keywords": ["ab"]}}}}
    vosk = {"config": {"sample_rate": 16_000, "language": "en", "phrase_list": ["ab"]}}

    async def use(path: str, *messages: str | bytes, **headers: str) -> str:
        async with dial(f"ws://{place}{path}", additional_headers=headers) as websocket:
            for message in messages:
                await websocket.send(message)
            return str(await websocket.recv())

    answer = httpx.post(f"http://{place}/v1/realtime/client_secrets", json={"session": realtime}, timeout=60)
    assert found.pop("deu") is False
    key = {"authorization": f"Bearer {answer.json()['value']}"}
    created = json.loads(asyncio.run(use("/v1/realtime", **key)))
    assert created["session"]["audio"]["input"]["transcription"]["language"] == "de"
    assert found.pop("deu") is False
    asyncio.run(use("/", json.dumps(vosk), PCM[:3_200]))
    assert found == {"eng": False}


def test_openai_translates_the_language_that_a_file_names(many: Recognizer):
    file = as_file((NOISE * 32_767).astype(np.int16))
    translation = service(FromGerman(targets=("en",)), call_timeout_s=LIMIT)
    with (
        Recognizer(many.encoder, language="en") as other,
        running_server(other) as running,
    ):
        other.translation = translation

        def text(kind: str, **form: str) -> str:
            place = f"http://127.0.0.1:{running.port}/v1/audio/{kind}"
            form |= {"model": "m", "chunking_strategy": "null"}
            return httpx.post(place, data=form, files={"file": file}, timeout=LIMIT).json()["text"]

        german = text("transcriptions", language="de")
        assert text("translations", language="de") == f"en:{german}"
        assert text("translations") == text("transcriptions")


def test_deepgram_files_take_a_language(server: RunningServer):
    url = server.url.replace("ws://", "http://").replace("/v1/stream", "/v1/listen")
    raw = {"encoding": "linear16", "sample_rate": "16000"}
    with httpx.Client(timeout=60) as client:
        answer = client.post(url, params={**raw, "language": "de"}, content=PCM).json()
        alternative = answer["results"]["channels"][0]["alternatives"][0]
        assert {word["language"] for word in alternative["words"]} <= {"de"}
        several = client.post(url, params={**raw, "detect_language": ["de", "en"]}, content=PCM)
        assert several.status_code == 200
        refused = client.post(url, params={**raw, "language": "multi"}, content=PCM)
        assert refused.status_code == 400
        assert "name two to ten" in refused.json()["err_msg"]
