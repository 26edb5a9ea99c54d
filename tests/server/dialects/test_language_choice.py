"""A language asked for, reported, switched and refused with a sentence in every protocol, by the official clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xlsr_live.client.cli import run
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.protocol.events import Error
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.checkpoints import LETTERS, NO_DELIMITER
from tests.support.language_clients import CLIENTS, LanguageClient, ask, deepgram, native, realtime, vosk
from tests.support.many_languages import publish_mms
from tests.support.native_reference import as_file, pause
from tests.support.wire import talk

MODEL = "mms-1b-all"
HINT = f"(`xlsr-live languages --model {MODEL}`)"
UNNAMED = (
    f"{MODEL} knows 1,162 languages: name the language (--language, or `language` in a request), or 'auto' with 2 to "
    f"10 allowed_languages {HINT}"
)
UNKNOWN = f"{MODEL} has no 'xhoo'; did you mean 'xho'? it knows 1,162 languages {HINT}"
ONE = "language 'auto' needs 2 to 10 allowed_languages, not 1; with one, make it the language"
ELEVEN = "language 'auto' needs 2 to 10 allowed_languages, not 11; with one, make it the language"
LETTERS_OF = {"de": {*LETTERS, " "}, "zh-Hans": {*NO_DELIMITER}}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recognizer]:
    folder = tmp_path_factory.mktemp("models")
    publish_mms(folder / MODEL)
    (folder / MODEL / "adapter.xho.safetensors").write_bytes(b"broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with Recognizer.load(MODEL, device="cpu") as recognizer:
            yield recognizer


@pytest.fixture(scope="module")
def server(many: Recognizer) -> Iterator[RunningServer]:
    with running_server(many, ServerSettings(wyoming_port=0, vosk_port=0)) as running:
        yield running


@pytest.fixture(scope="module")
def speech(clip: Callable[[str], Any]) -> bytes:
    """One utterance, and a pause that ends it."""
    return np.concatenate([pause(0.5), clip("george")[:32_000], pause(1)]).tobytes()


every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


@every_client
def test_a_language_is_chosen_reported_and_switched(client: LanguageClient, server: RunningServer, speech: bytes):
    spoken = ask(client, server, ["de", "zh"], speech)
    assert [tag for tag, _ in spoken] == ["de", "zh-Hans"]
    for tag, text in spoken:
        assert text
        assert set(text) <= LETTERS_OF[tag]


@every_client
@pytest.mark.parametrize(("language", "sentence"), [(None, UNNAMED), ("xhoo", UNKNOWN)], ids=["unnamed", "unknown"])
def test_a_language_is_refused_with_a_sentence(
    client: LanguageClient, server: RunningServer, speech: bytes, language: str | None, sentence: str
):
    longest = 123 if client is vosk else 1_000  # of a close frame's reason: Vosk's protocol has no error messages
    assert ask(client, server, [language], speech) == [("error", sentence[:longest])]


@pytest.mark.parametrize("client", [native, realtime, deepgram], ids=lambda client: client.__name__)
def test_each_utterance_gets_one_of_several_languages(client: LanguageClient, server: RunningServer, speech: bytes):
    ((tag, text),) = ask(client, server, [["de", "zh"]], speech)
    assert set(text) <= LETTERS_OF[tag]


@pytest.mark.parametrize("client", [realtime, deepgram], ids=lambda client: client.__name__)
@pytest.mark.parametrize(("several", "sentence"), [(["de"] * 11, ELEVEN), (["de", "xhoo"], UNKNOWN)])
def test_several_languages_are_refused_with_a_sentence(
    client: LanguageClient, server: RunningServer, speech: bytes, several: list[str], sentence: str
):
    assert ask(client, server, [several], speech) == [("error", sentence)]


def test_a_damaged_adapter_is_refused_and_other_languages_go_on(server: RunningServer, speech: bytes):
    damaged = f"{MODEL}: the adapter of xho is damaged"
    assert ask(native, server, ["xho"], speech) == [("error", damaged)]
    both = ask(native, server, ["de", "xho"], speech)
    assert [text for tag, text in both if tag == "bad_model"] == [damaged]  # a warning
    assert [tag for tag, text in both if tag != "bad_model" and text] == ["de", "de"]  # the language stays


SENTENCES = pytest.mark.parametrize(
    ("language", "allowed", "sentence"),
    [
        (None, (), UNNAMED),
        ("xhoo", (), UNKNOWN),
        ("auto", ("de",), ONE),
        ("auto", ("de",) * 11, ELEVEN),
        ("auto", ("de", "xhoo"), UNKNOWN),
    ],
    ids=["unnamed", "unknown", "one", "eleven", "lacking"],
)


@SENTENCES
def test_python_gets_the_sentence(
    many: Recognizer, speech: bytes, language: str | None, allowed: tuple[str, ...], sentence: str
):
    with pytest.raises(ConfigError) as refusal:
        many.transcribe(np.zeros(16_000, np.float32), SessionConfig(language=language, allowed_languages=allowed))
    assert str(refusal.value) == sentence


@SENTENCES
def test_the_native_protocol_gets_the_sentence(
    server: RunningServer, language: str | None, allowed: tuple[str, ...], sentence: str
):
    start = json.dumps({"type": "start", "config": {"language": language, "allowed_languages": allowed}})
    (error,) = asyncio.run(talk(server.url, [start])).events
    assert isinstance(error, Error)
    assert (error.code, error.message.partition(" - at ")[0]) == ("bad_config", sentence)


@SENTENCES
def test_the_command_line_gets_the_sentence(
    many: Recognizer,
    clip: Callable[[str], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    language: str | None,
    allowed: tuple[str, ...],
    sentence: str,
):
    (tmp_path / "talk.wav").write_bytes(as_file(clip("george")[:16_000]))
    options = ["--language", language] if language else []
    for each in allowed:
        options += ["--allowed-language", each]
    assert run(["transcribe", str(tmp_path / "talk.wav"), "--model", many.info.name, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.removeprefix("xlsr-live: ").removeprefix(f"{tmp_path / 'talk.wav'}: ") == f"{sentence}\n"
