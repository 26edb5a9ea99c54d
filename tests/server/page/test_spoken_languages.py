"""The page of a server whose model has several languages: the speaker chooses one, also in mid-session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.browser import accessible, message, wait, wait_for_state
from tests.support.many_languages import LANGUAGES, multilingual_recognizer
from tests.support.paths import CLIPS

MANY = [
    *("deu", "fra", "spa", "ita", "por", "nld", "pol", "ces", "ron", "kmr-script_arabic", "kmr-script_latin", "eng"),
    *("cmn-script_simplified", "yor", "hin", "quy-dialect_ayacucho"),
]
REPEATS = 5  # of the clip: the last ones begin long after the choice


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip, quiet = soundfile.read(CLIPS / "george.flac", dtype="int16")[0], np.zeros(20_000, np.int16)
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.concatenate([quiet, *[clip, quiet] * REPEATS]), 16_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recognizer]:
    with multilingual_recognizer(tmp_path_factory.mktemp("many")) as recognizer:
        yield recognizer


@pytest.fixture(scope="module")
def many(multilingual: Recognizer) -> Iterator[RunningServer]:
    with running_server(multilingual) as server:
        yield server


def test_the_language_changes_in_mid_session(opened: Callable[..., Any], many: RunningServer, tmp_path: Path):
    (model,) = httpx.get(f"http://127.0.0.1:{many.port}/v1/models").json()["data"]
    assert (sorted(model["languages"]), model["language"]) == (sorted(LANGUAGES), None)

    page = opened(many.port, locale="de-AT")
    page.wait_for_selector("#spoken:not([hidden])")
    assert page.locator("#spoken option").all_inner_texts() == [
        "Choose a language",
        "Automatic",
        "Chinesisch (vereinfacht)",
        "Deutsch",
        "Englisch",
    ]
    assert page.input_value("#spoken") == "deu"  # the browser's own
    accessible(page)
    page.click("#start")
    page.wait_for_selector(".utterance.final")
    page.focus("#spoken")
    page.keyboard.press("ArrowUp")
    assert page.input_value("#spoken") == "cmn-script_simplified"
    wait(page, "document.querySelectorAll('.utterance.final[lang=zh-Hans]').length > 0")
    accessible(page)
    page.click("#start")
    wait_for_state(page, "idle")
    tags = page.evaluate("[...document.querySelectorAll('.utterance.final')].map(({ lang }) => lang)")
    assert tags == sorted(tags)
    assert set(tags) == {"de", "zh-Hans"}
    assert page.locator(".language").all_inner_texts() == ["Deutsch", "Chinesisch (vereinfacht)"]
    assert set(page.locator("#finals p").evaluate_all("all => all.map(({ lang }) => lang)")) <= set(tags)
    texts = page.locator(".utterance.final[lang=de] .line").all_inner_texts()
    page.click("[popovertarget=save]:visible")
    accessible(page)
    page.select_option("#save-language", label="Only Deutsch")
    with page.expect_download() as saved:
        page.click("#save-txt")
    assert saved.value.suggested_filename.endswith(".deu.txt")
    saved.value.save_as(tmp_path / "german.txt")
    assert "".join((tmp_path / "german.txt").read_text().split()).lower() == "".join("".join(texts).split()).lower()
    page.reload()
    page.wait_for_selector("#spoken:not([hidden])")
    assert page.input_value("#spoken") == "cmn-script_simplified"  # the last choice


def test_a_model_without_a_default_asks_for_the_language(opened: Callable[..., Any], many: RunningServer):
    page = opened(many.port, locale="fr-FR")
    page.wait_for_selector("#spoken:not([hidden])")
    assert page.input_value("#spoken") == ""
    page.click("#start")
    assert message(page)
    assert "name the language" in page.inner_text("#notice-text")
    wait_for_state(page, "idle")


def test_a_server_that_identifies_the_language_says_so(opened: Callable[..., Any], multilingual: Recognizer):
    with (
        Recognizer(multilingual.encoder, language="auto", allowed_languages=("de", "en")) as recognizer,
        running_server(recognizer) as server,
    ):
        page = opened(server.port, locale="de-AT")
        page.wait_for_selector("#spoken:not([hidden])")
        assert page.input_value("#spoken") == ""
        assert page.locator("#spoken option").first.inner_text() == "Automatic (default)"


def test_each_utterance_can_get_one_of_chosen_languages(opened: Callable[..., Any], many: RunningServer):
    page = opened(many.port, locale="de-AT")
    page.wait_for_selector("#spoken:not([hidden])")
    assert page.locator("#allowed-button").is_hidden()
    page.select_option("#spoken", "auto")
    assert page.inner_text("#allowed-button") == "Which languages?"
    page.click("#start")
    assert message(page) == "Automatic needs at least two languages"
    wait_for_state(page, "idle")

    page.focus("#allowed-button")
    page.keyboard.press("Enter")
    assert page.is_checked("#allowed-languages [value=deu]")  # the browser's own
    assert page.inner_text("#allowed-count") == "Choose at least 2."
    page.focus("#allowed-languages [value=eng]")
    page.keyboard.press("Space")
    assert page.inner_text("#allowed-count") == "2 of at most 10."
    accessible(page)
    page.keyboard.press("Escape")
    assert page.inner_text("#allowed-button") == "Deutsch, Englisch"

    page.click("#start")
    page.wait_for_selector(".utterance.final")
    page.click("#start")
    wait_for_state(page, "idle")
    tags = page.evaluate("[...document.querySelectorAll('.utterance.final')].map(({ lang }) => lang)")
    assert set(tags) <= {"de", "en"}
    page.reload()
    page.wait_for_selector("#allowed-button:not([hidden])")
    assert page.inner_text("#allowed-button") == "Deutsch, Englisch"  # the last choice


def test_among_many_languages_up_to_ten_are_found_by_name(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port, locale="en-GB")
    page.evaluate("""async (languages) => (await import("/page/spoken.js")).spoken.offer({ languages })""", MANY)
    page.select_option("#spoken", "auto")
    page.click("#allowed-button")
    accessible(page)
    shown = page.locator("#allowed-languages label:visible")
    page.fill("#find-language", "kurd")
    assert shown.all_inner_texts() == ["Kurdish (Arabic)", "Kurdish (Latin)"]
    page.fill("#find-language", "")
    assert shown.count() == len(MANY)
    for code in MANY[:9]:
        page.check(f"#allowed-languages [value={code}]")
    assert page.is_checked("#allowed-languages [value=eng]")
    assert page.locator("#allowed-languages :disabled").count() == len(MANY) - 10
    page.uncheck("#allowed-languages [value=eng]")
    assert page.locator("#allowed-languages :disabled").count() == 0


def test_a_model_with_one_language_has_no_choice(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    wait(page, "document.querySelector('.model').textContent !== ''")  # the server's own answer has come
    assert page.locator("#spoken").is_hidden()
