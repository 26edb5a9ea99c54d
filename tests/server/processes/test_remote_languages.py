"""A front with a multilingual model in the engine process: the same languages, and the same finals."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from xlsr_live.server.processes.engine_host import EngineHost
from xlsr_live.server.processes.remote_engine import RemoteEngine
from xlsr_live.server.processes.remote_model import describe, front_recognizer
from xlsr_live.streaming.config import ModelOptions, SessionConfig
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.multilingual import LANGUAGES, SPOKEN, make_multilingual


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recognizer, Recognizer]]:
    """A recognizer, and one over its engine as a front has it."""
    folder = make_multilingual(tmp_path_factory.mktemp("many"))
    options = ModelOptions(str(folder), device="cpu", lm="none")
    with Recognizer.from_options(options) as own, tempfile.TemporaryDirectory() as private:
        address = str(Path(private) / "engine")
        host = EngineHost(own.engine, own.encoder.languages, describe(own, limit=1), address)
        with front_recognizer(options, RemoteEngine(address), address) as remote:
            yield own, remote
        host.close()


def test_the_finals_of_every_language_are_the_same(both: tuple[Recognizer, Recognizer]):
    own, remote = both
    assert remote.languages.known == own.languages.known == LANGUAGES
    for code in ("deu", "spa"):
        (file,) = SPOKEN.glob(f"{code}.*")
        samples, _ = soundfile.read(file, dtype="float32")
        config = SessionConfig(language="auto", allowed_languages=("de", "es"), vad="none")
        finals = [recognizer.transcribe(samples, config) for recognizer in both]
        assert [_plain(each) for each in finals[0]] == [_plain(each) for each in finals[1]]
        assert finals[0][0].language == code


def _plain(final: object) -> tuple[object, ...]:
    return tuple(getattr(final, name) for name in ("text", "words", "language", "start", "end", "confidence"))


def test_a_language_that_the_model_lacks_is_refused(both: tuple[Recognizer, Recognizer]):
    for recognizer in both:
        with pytest.raises(ConfigError, match=r"Japanese|jpn|ja"):
            recognizer.languages.load("ja")
