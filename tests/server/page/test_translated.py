"""The page in two languages: the speaker chooses into which, each reader which one to see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.captions.cues import CueMaker
from xlsr_live.streaming.captions.subtitles import VTT_SIGNATURE, srt, vtt, vtt_header
from xlsr_live.streaming.captions.translated import TranslatedCues
from xlsr_live.streaming.protocol.events import Final, Translation, Word, to_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.browser import accessible, start_translated, wait, wait_for_state
from tests.support.paths import DIGITS
from tests.support.translators import LIMIT, FakeTranslator, service

pysrt = pytest.importorskip("pysrt", reason="needs pysrt")


@pytest.fixture(scope="module")
def translating() -> Iterator[RunningServer]:
    with Recognizer.load(str(DIGITS), device="cpu", adaptive=False, translate_from="en") as recognizer:
        recognizer.translation = service(FakeTranslator(), call_timeout_s=LIMIT, max_lag_s=LIMIT)
        with running_server(recognizer) as server:
            yield server


def second_lines(page: Any) -> list[str]:
    return page.locator(".translation").all_inner_texts()


def test_speaker_readers_and_overlay_have_the_language_that_each_chose(
    opened: Callable[..., Any], translating: RunningServer, transcript: list[str], tmp_path: Path
):
    page = opened(translating.port, locale="es-MX")
    page.click("#translate-button")
    accessible(page)
    page.keyboard.press("Escape")
    key = start_translated(page, "es", "fr")
    reader = opened(translating.port, f"/view#{key}", locale="fr-FR")
    overlay = opened(translating.port, f"/overlay?translation=es&hold=0#{key}")
    wait(page, f"document.querySelectorAll('.translation').length === {len(transcript)}")
    page.click("#start")
    wait_for_state(page, "idle")
    assert second_lines(page) == [f"es:{text}" for text in transcript]  # the browser's own language
    assert page.get_attribute(".translation", "lang") == "es"
    wait_for_state(reader, "ended")
    assert second_lines(reader) == [f"fr:{text}" for text in transcript]
    wait(overlay, f"document.querySelectorAll('.translation').length === {len(transcript)}")
    assert second_lines(overlay) == [f"es:{text}" for text in transcript]

    reader.click("[popovertarget=look]")
    accessible(reader)
    reader.select_option("#translation", "es")
    assert second_lines(reader) == [f"es:{text}" for text in transcript]
    reader.select_option("#translation", "")
    assert second_lines(reader) == []
    reader.keyboard.press("Escape")

    def saved(language: str) -> list[str]:
        reader.click("[popovertarget=save]")
        reader.select_option("#save-language", language)
        with reader.expect_download() as download:
            reader.click("#save-srt")
        path = tmp_path / f"captions.{language}.srt"
        download.value.save_as(path)
        reader.keyboard.press("Escape")
        return [cue.text.replace("\n", " ") for cue in pysrt.open(path)]

    assert " ".join(saved("fr")) == " ".join(f"fr:{text}" for text in transcript)
    assert " ".join(saved("")).upper() == " ".join(transcript)


def test_another_second_line_is_for_all_sessions_on_the_page(opened: Callable[..., Any], translating: RunningServer):
    shown = opened(translating.port).evaluate("""async () => {
        const { Captions } = await import("/page/captions.js");
        const captions = new Captions(document.body.appendChild(document.createElement("div")));
        const [start, end, confidence] = [0, 1, 1];
        for (const text of ["one", "two"]) {
            const words = [{ word: text, start, end, confidence }];
            captions.handle({ type: "final", utterance: 0, text, words, start, end, confidence });
            for (const language of ["es", "fr"]) {
                captions.handle({ type: "translation", utterance: 0, language, text: `${language}:${text}` });
            }
        }
        const read = (translation) => {
            captions.setStyle({ mode: "transcript", sentence: true, translation });
            return [...document.querySelectorAll(".translation")].map((line) => line.textContent);
        };
        return ["es", "fr", ""].map(read);
    }""")
    assert shown == [["es:one", "es:two"], ["fr:one", "fr:two"], []]


def test_new_lines_keep_each_language_s_word_separator(opened: Callable[..., Any], translating: RunningServer):
    texts = opened(translating.port).evaluate("""async () => {
        const { Captions } = await import("/page/captions.js");
        const box = document.body.appendChild(document.createElement("div"));
        const captions = new Captions(box);
        const [start, end, confidence] = [0, 1, 1];
        for (const text of ["你好", "good morning"]) {
            const words = text.split(text.includes(" ") ? " " : "").map((word) => ({ word, start, end, confidence }));
            captions.handle({ type: "final", utterance: 0, text, words, start, end, confidence });
        }
        captions.refit();
        return [...box.querySelectorAll(".line")].map((line) => line.textContent);
    }""")
    assert texts == ["你好", "good morning"]


def test_the_page_makes_the_same_translated_cues(opened: Callable[..., Any], translating: RunningServer):
    random = Random(1)
    finals: list[Final] = []
    translations: list[Translation] = []
    now = 0.0
    for number in range(100):
        words: list[Word] = []
        for _ in range(random.randrange(1, 40)):
            end = round(now + random.uniform(0.1, 0.6), 3)
            words.append(Word("X" * random.randrange(1, 12), now, end, 0.9))
            now = end
        text = " ".join(word.word for word in words)
        finals.append(Final(utterance=number, text=text, words=tuple(words), start=0.0, end=now + 0.2, confidence=0.9))
        said = random.choice([" ", " ", ""]).join("y" * random.randrange(1, 60) for _ in range(random.randrange(1, 60)))
        translations.append(Translation(utterance=number, language="es", text=said, start=0.0, end=now + 0.2))
        now += 0.3
    page = opened(translating.port)
    events = [
        json.loads(to_json(final)) | {"translations": {"es": translation.text}}
        for final, translation in zip(finals, translations, strict=True)
    ]
    made = page.evaluate(
        """async (finals) => {
        const { FORMATS } = await import("/page/download.js");
        return [FORMATS.vtt.write(finals, "es"), FORMATS.srt.write(finals, "es")];
    }""",
        events,
    )
    maker = TranslatedCues("es")
    found = [
        cue
        for final, translation in zip(finals, translations, strict=True)
        for event in (final, translation)
        for cue in maker.receive(event)
    ]
    assert len(found) > 100
    assert made[0] == VTT_SIGNATURE + vtt_header("es") + "".join(map(vtt, found))
    assert made[1] == "".join(srt(number, cue) for number, cue in enumerate(found, 1))
    originals = CueMaker()
    times = [(cue.start, cue.end) for final in finals for cue in originals.receive(final)]
    assert {cue.start for cue in found} >= {start for start, _ in times[:1]}
