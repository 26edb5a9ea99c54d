"""OpenAI's translations of files, by the official client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server.run import running_server
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.translation.service import TranslationService

from tests.support.native_reference import as_file
from tests.support.paths import DIGITS
from tests.support.translators import LIMIT, FromGerman, service

openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
pysrt = pytest.importorskip("pysrt", reason="needs pysrt")


# Of the method in the client, since its newer models do not translate.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


def failing(segments: Any) -> None:
    raise RuntimeError("no memory")


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer.load(str(DIGITS), device="cpu", adaptive=False, translate_from="German") as recognizer:
        yield recognizer


def translate(recognizer: Recognizer, translation: TranslationService | None, samples: Any, form: str = "json") -> Any:
    recognizer.translation = translation
    with (
        running_server(recognizer) as server,
        openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any", max_retries=0) as client,
    ):
        return client.audio.translations.create(model="any", file=as_file(samples), response_format=form)


@pytest.mark.parametrize("form", ["json", "text", "srt", "verbose_json"])
def test_a_file_comes_back_in_english(recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]], form: str):
    translator = FromGerman(targets=("en",))
    answer = translate(recognizer, service(translator, call_timeout_s=LIMIT), clip("george"), form)
    expected = "en:ONE TWO NINE FOUR EIGHT ONE"
    match form:
        case "json":
            assert answer.text == expected
        case "text":
            assert answer.strip() == expected
        case "srt":
            assert [cue.text.replace("\n", " ") for cue in pysrt.from_string(answer)] == [expected]
        case _:
            assert answer.text == expected
            assert [segment.text for segment in answer.segments] == [expected]


def test_english_is_transcribed(clip: Callable[[str], NDArray[np.int16]]):
    with Recognizer.load(str(DIGITS), device="cpu", adaptive=False, translate_from="English") as recognizer:
        assert translate(recognizer, None, clip("george")).text == "ONE TWO NINE FOUR EIGHT ONE"


def test_without_a_translator_into_english_it_is_not_found(
    recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]]
):
    for translation in (None, service(FromGerman(targets=("es",)))):
        with pytest.raises(openai.NotFoundError, match="does not translate into English"):
            translate(recognizer, translation, clip("george"))


def test_a_translator_that_fails_is_an_error_and_no_silence(
    recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]]
):
    with pytest.raises(openai.InternalServerError, match="no memory"):
        translate(recognizer, service(FromGerman(failing, targets=("en",)), call_timeout_s=LIMIT), clip("george"))
