"""The page with real speech: it shows the text of `transcribe`, also over broken connections."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.browser import INSECURE, accessible, finals, message, wait, wait_for_state, words
from tests.support.relay import relay
from tests.support.serving import get

COUNT_BLOCKS = """() => {
    window.blocks = 0;  // the level changes once in each block of 100 ms
    const level = document.getElementById("level");
    new MutationObserver(() => (window.blocks += 1)).observe(level, { attributes: true });
}"""

webvtt = pytest.importorskip("webvtt", reason="needs webvtt-py")


def test_text_appears_during_speech_and_equals_transcribe(
    opened: Callable[..., Any], server: RunningServer, transcript: list[str], tmp_path: Path
):
    page = opened(server.port)
    accessible(page)
    page.click("#start")
    page.wait_for_selector(".utterance:not(.final) .word:not(.volatile)")
    assert page.inner_text("#status") == "Listening"
    accessible(page)
    wait(page, f"document.querySelectorAll('.final').length === {len(transcript)}")
    page.click("#start")
    wait_for_state(page, "idle")
    assert words(finals(page)) == " ".join(transcript)
    shown = [text.capitalize() for text in transcript]
    assert page.locator("#finals p").all_inner_texts() == shown  # the live region: finals, each once

    first = page.locator(".final .word").first
    first.hover()
    start = math.floor(10 * first.evaluate("(element) => element.word.start")) / 10
    assert page.inner_text("#word-info").startswith(f"0:0{start} – ")
    page.focus("#captions")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.textContent").upper() == transcript[-1].split()[-1]
    for panel in ("look", "save", "share-panel"):
        page.click(f"[popovertarget={panel}]")
        accessible(page)
        page.keyboard.press("Escape")
    page.click("[popovertarget=look]")
    page.check("[name=confidence]")
    page.check("[value=captions]")
    page.keyboard.press("Escape")
    accessible(page)

    def saved(name: str) -> Path:
        page.click("[popovertarget=save]")
        with page.expect_download() as download:
            page.click(f"#save-{name}")
        path = tmp_path / f"captions.{name}"
        download.value.save_as(path)
        return path

    assert saved("txt").read_text().splitlines() == shown
    for captions in (webvtt.WebVTT().read(saved("vtt")), webvtt.from_srt(saved("srt"))):
        assert " ".join(caption.text.replace("\n", " ") for caption in captions) == " ".join(shown)
    document = json.loads(saved("json").read_text())
    assert document["text"] == " ".join(word["word"] for word in document["words"]) == " ".join(transcript)


def test_speech_before_the_connection_is_kept(opened: Callable[..., Any], server: RunningServer, transcript: list[str]):
    page = opened(server.port)
    held: list[Any] = []
    page.route("**/v1/stream", lambda route: held.append(route))
    page.evaluate(COUNT_BLOCKS)
    page.evaluate("() => { AbortSignal.timeout = () => new AbortController().signal; }")  # the page waits for 10 s only
    page.click("#start")
    wait(page, lambda: held)
    wait(page, "document.getElementById('status').textContent === 'Listening'")
    assert page.inner_text("#hint").startswith("Speak.\nThe text appears here.\n")
    wait(page, "blocks >= 25")  # 2.5 s of speech
    page.click("#start")  # Stop
    wait_for_state(page, "finishing")
    held[0].continue_()
    wait_for_state(page, "idle")
    text = words(finals(page))
    assert text.split()[0] == transcript[0].split()[0], text
    page.close()


def test_a_broken_connection_loses_no_speech(opened: Callable[..., Any], server: RunningServer, transcript: list[str]):
    with relay(server.port) as link:
        page = opened(link.port, color_scheme="dark")
        page.click("#start")
        page.wait_for_selector(".utterance:not(.final) .word:not(.volatile)")
        accessible(page)
        link.cut()
        wait_for_state(page, "reconnecting")
        assert message(page) == "The connection is interrupted"
        link.mend()
        wait_for_state(page, "live")
        wait(page, f"document.querySelectorAll('.final').length === {len(transcript)}")
        page.click("#start")
        wait_for_state(page, "idle")
        assert words(finals(page)) == " ".join(transcript)
        page.close()


def test_a_session_that_the_server_has_dropped_loses_no_speech(
    opened: Callable[..., Any], recognizer: Recognizer, transcript: list[str]
):
    with running_server(recognizer, ServerSettings(resume_grace_s=0.1)) as server, relay(server.port) as link:
        page = opened(link.port)
        page.click("#start")
        page.wait_for_selector(".utterance:not(.final) .word:not(.volatile)")
        link.cut()
        wait_for_state(page, "reconnecting")
        wait(page, lambda: "xlsr_live_sessions_open 0.0" in get(server, "/metrics").text)
        link.mend()
        wait_for_state(page, "live")
        wait(page, f"document.querySelectorAll('.final').length === {len(transcript)}")
        page.click("#start")
        wait_for_state(page, "idle")
        assert words(finals(page)) == " ".join(transcript)
        times = page.evaluate("[...document.querySelectorAll('.word')].map(({ word }) => word.start)")
        assert times == sorted(times)
        page.close()


def test_a_session_moves_from_a_server_that_stops(
    opened: Callable[..., Any], recognizer: Recognizer, transcript: list[str]
):
    with running_server(recognizer) as first, running_server(recognizer) as second, relay(first.port) as link:
        page = opened(link.port)
        page.click("#start")
        page.wait_for_selector(".utterance:not(.final) .word:not(.volatile)")
        link.route(second.port)
        asyncio.run_coroutine_threadsafe(first.sessions.drain(60, 30), first.loop)
        wait(page, lambda: "xlsr_live_moved_total 1.0" in get(second, "/metrics").text)
        wait(page, f"document.querySelectorAll('.final').length === {len(transcript)}")
        page.click("#start")
        wait_for_state(page, "idle")
        assert words(finals(page)) == " ".join(transcript)
        page.close()


def test_a_file_is_captioned_without_a_microphone(
    opened: Callable[..., Any], server: RunningServer, transcript: list[str], speech: Path
):
    page = opened(server.port, host=INSECURE, microphone=False)
    assert message(page) == "The microphone needs a secure page"
    page.set_input_files("#file", speech)
    page.click("#start")
    wait_for_state(page, "live")
    wait_for_state(page, "idle")
    assert words(finals(page)) == " ".join(transcript)
