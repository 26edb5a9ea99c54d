"""Finals as people read them: the model's name, punctuation and case on the page, for readers, and in saved files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.captions.case import SentenceCase
from xlsr_live.streaming.captions.punctuation import as_displayed
from xlsr_live.streaming.protocol.events import Final, Word
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.browser import accessible, wait, wait_for_state
from tests.support.paths import DIGITS

webvtt = pytest.importorskip("webvtt", reason="needs webvtt-py")


@pytest.fixture(scope="module")
def punctuating(transcript: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a model that writes every word with a capital and a comma."""
    models = pytest.importorskip("tests.support.punctuation_models", reason="needs onnx and sentencepiece")
    words = {word.lower(): ("", word.capitalize(), ",") for word in " ".join(transcript).split()}
    folder = models.publish(tmp_path_factory.mktemp("punctuation"), words)
    with (
        Recognizer.load(str(DIGITS), device="cpu", adaptive=False, punctuation_model=str(folder)) as recognizer,
        running_server(recognizer) as server,
    ):
        yield server


def texts(page: Any) -> list[str]:
    """The finished utterances as they are written."""
    shown = page.evaluate("""() => [...document.querySelectorAll(".utterance.final")].map((each) =>
        [...each.querySelectorAll(".line")].map((line) => line.textContent).join(" "))""")
    return list(shown)


def test_the_page_names_the_model_and_what_to_expect(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    wait(page, "document.querySelector('.model').textContent !== ''")
    assert page.inner_text("#hint .model") == "Model: digits. It is small: expect errors."
    page.click("[popovertarget=look]")
    assert page.inner_text("#look .model") == page.text_content("#hint .model")
    accessible(page)


@pytest.mark.parametrize(
    ("listed", "text"),
    [
        (
            {"id": "bundled", "parameters": 7e6, "spoken_language": "en"},
            "Model: bundled, English. It is small: expect errors.",
        ),
        ({"id": "owner/german", "parameters": 3e8, "spoken_language": "de"}, "Model: owner/german, German."),
        ({"id": "/srv/models/mine", "parameters": 9e7}, "Model: mine."),
        ({"id": "mms", "parameters": 1e9, "languages": ["deu", "eng", "fra"]}, "Model: mms, 3 languages."),
        ({"id": "one", "parameters": 4e7, "languages": ["deu"]}, "Model: one, German. It is small: expect errors."),
    ],
)
def test_other_models(opened: Callable[..., Any], server: RunningServer, listed: dict[str, Any], text: str):
    page = opened(server.port)
    wait(page, "document.querySelector('#hint .model').textContent !== ''")  # the server's own answer has come
    page.evaluate("async (model) => (await import('/page/model.js')).showModel(model)", listed)
    assert page.text_content("#hint .model") == text
    assert page.get_attribute("#captions .text", "lang") == listed.get("spoken_language")


def test_punctuation_is_shown_and_saved(
    opened: Callable[..., Any], punctuating: RunningServer, transcript: list[str], tmp_path: Path
):
    page = opened(punctuating.port)
    page.click("#share")
    page.check("#share-on")
    page.keyboard.press("Escape")
    page.click("#start")
    page.wait_for_selector("#links:not([hidden])", state="attached")
    key = page.get_attribute("#view-link", "href").partition("#")[2]
    reader = opened(punctuating.port, f"/view#{key}")
    for shown in (page, reader):
        wait(shown, f"document.querySelectorAll('.final').length === {len(transcript)}")
    page.click("#start")
    wait_for_state(page, "idle")

    def saved(name: str) -> Path:
        page.click("header [popovertarget=save]")
        with page.expect_download() as download:
            page.click(f"#save-{name}")
        path = tmp_path / f"captions.{name}"
        download.value.save_as(path)
        return path

    expected = [" ".join(f"{word.capitalize()}," for word in text.split()) for text in transcript]
    assert texts(page) == texts(reader) == expected
    assert page.locator("#finals p").all_inner_texts() == expected
    assert saved("txt").read_text().splitlines() == expected
    for captions in (webvtt.WebVTT().read(saved("vtt")), webvtt.from_srt(saved("srt"))):
        assert " ".join(caption.text.replace("\n", " ") for caption in captions) == " ".join(expected)
    document = json.loads(saved("json").read_text())
    assert [final["text"] for final in document["finals"]] == transcript
    assert [final["display_text"] for final in document["finals"]] == expected

    page.click("[popovertarget=look]")
    page.select_option("#punctuation", "none")
    page.keyboard.press("Escape")
    plain = [text.capitalize() for text in transcript]
    assert texts(page) == plain
    assert saved("txt").read_text().splitlines() == plain


@pytest.mark.parametrize(("wanted", "requested"), [("auto", False), ("always", True), ("none", False)])
def test_without_a_model_punctuation_is_a_wish(
    opened: Callable[..., Any], server: RunningServer, wanted: str, requested: bool
):
    page = opened(server.port)
    page.click("[popovertarget=look]")
    page.select_option("#punctuation", wanted)
    page.keyboard.press("Escape")
    sent: list[str] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
    page.click("#start")
    wait_for_state(page, "live")
    assert json.loads(sent[0])["config"].get("punctuation", False) is requested


def test_finals_are_displayed_as_the_command_line_displays_them(opened: Callable[..., Any], server: RunningServer):
    def final(text: str, display_text: str | msgspec.UnsetType = msgspec.UNSET) -> Final:
        words = tuple(Word(word, float(at), at + 0.5, 1.0) for at, word in enumerate(text.split()))
        return Final(0, text, words, 0.0, 9.0, 1.0, display_text=display_text)

    finals = [
        final("I'M A BEE"),
        final("A IS A B"),
        final("SEVEN THREE", "Seven, three."),
        final("GUTEN TAG", "Guten-Tag!"),
        final("YES", "¿Yes?"),
        final(""),
    ]
    expected = [as_displayed(each) if each.display_text else SentenceCase().receive(each) for each in finals]
    made = opened(server.port).evaluate(
        """async (finals) => {
        const { displayed } = await import("/page/case.js");
        return finals.map((final) => displayed(final, { sentence: true, punctuation: true }));
    }""",
        msgspec.to_builtins(finals),
    )
    assert msgspec.convert(made, list[Final]) == expected
    assert isinstance(expected[3], Final)
    assert [word.word for word in expected[3].words] == ["GUTEN", "TAG"]
