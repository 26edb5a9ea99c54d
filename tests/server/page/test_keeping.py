"""What becomes of the text: finished, copied, cleared and brought back, and restored after the page was left."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from xlsr_live.server.run import RunningServer

from tests.support.browser import accessible, finals, wait, wait_for_state, words

NEWEST_SHOWN = "captions.scrollHeight - captions.scrollTop - captions.clientHeight < 2"
WARNS = "() => !dispatchEvent(new Event('beforeunload', { cancelable: true }))"
WATCH_COPIED = """() => {
    window.told = "";  // what the page says beside the button, for two seconds only
    const place = document.getElementById("copied-all");
    const look = () => (told ||= place.checkVisibility() && place.textContent);
    new MutationObserver(look).observe(place, { childList: true });
}"""


def copied(page: Any) -> str:
    return page.evaluate("() => navigator.clipboard.readText()")


def copy_all(page: Any) -> None:
    page.evaluate(WATCH_COPIED)
    page.click("#copy-all")
    wait(page, "told")


def speak(page: Any, utterances: int) -> None:
    """A session, until the page has so many utterances."""
    page.click("#start")
    wait(page, f"document.querySelectorAll('.final').length >= {utterances}")
    page.click("#start")
    wait_for_state(page, "idle")


def test_finished_text_can_be_copied_cleared_and_restored(
    opened: Callable[..., Any], server: RunningServer, transcript: list[str]
):
    page = opened(server.port, viewport={"width": 1000, "height": 330})  # room for two lines
    page.context.grant_permissions(["microphone", "clipboard-read", "clipboard-write"])
    assert page.is_hidden("#offer")
    assert not page.evaluate(WARNS)
    speak(page, len(transcript))
    count = len(" ".join(transcript).split())
    assert re.fullmatch(rf"Finished, \d+:\d\d, {count} words", page.inner_text("#finished-text"))
    assert page.evaluate(WARNS)
    accessible(page)

    copy_all(page)
    assert copied(page).upper().splitlines() == transcript
    assert not page.evaluate(WARNS)

    page.click("#new")
    assert words(finals(page)) == ""
    assert page.is_visible("#hint")
    accessible(page)
    page.click("text=Undo")
    assert words(finals(page)) == " ".join(transcript)

    speak(page, len(transcript) + 1)
    wait(page, NEWEST_SHOWN)
    assert page.is_hidden("#to-live")
    shown, finished = finals(page), page.inner_text("#finished-text")
    assert words(shown[: len(transcript) + 1]) == " ".join([*transcript, transcript[0]])
    assert (
        page.locator("#captions .divider, #captions .utterance").evaluate_all(
            "all => all.map(({ className }) => className).filter((name) => name === 'divider').length"
        )
        == 1
    )
    times = page.evaluate("[...document.querySelectorAll('.word')].map(({ word }) => word.start)")
    assert times == sorted(times)

    page.reload()
    page.click("text=Restore")
    assert finals(page) == shown
    assert page.locator(".divider").count() == 1
    assert page.inner_text("#finished-text") == finished.replace("Finished", "Restored")
    page.reload()
    page.click("text=Delete")
    page.reload()
    assert page.is_hidden("#offer")


def test_a_new_session_follows_the_text_of_the_last_visit(
    opened: Callable[..., Any], server: RunningServer, transcript: list[str]
):
    page = opened(server.port)
    speak(page, 1)
    shown = finals(page)
    before = words(shown)
    page.reload()
    page.wait_for_selector("#offer:not([hidden])")
    speak(page, len(shown) + 1)
    assert words(finals(page)[:-1]).startswith(before)
    page.reload()
    page.click("text=Restore")
    assert words(finals(page)).startswith(before)
    assert len(words(finals(page))) > len(before)


def test_a_page_without_tls_copies_too(opened: Callable[..., Any], server: RunningServer, transcript: list[str]):
    page = opened(server.port)
    page.context.grant_permissions(["microphone", "clipboard-read", "clipboard-write"])
    speak(page, 1)
    text = words(finals(page))
    page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })")
    copy_all(page)
    page.evaluate("() => delete navigator.clipboard")
    assert copied(page).upper().split() == text.split()


def test_a_copy_has_only_the_captions(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("""async () => {
        const { Captions } = await import("/page/captions.js");
        const { copyCaptions } = await import("/page/copying.js");
        const box = document.createElement("div");
        box.tabIndex = 0;
        box.id = "others";
        document.querySelector("main").append(box);
        const captions = new Captions(box, { announcer: document.getElementById("finals") });
        copyCaptions(box);
        captions.setStyle({ mode: "transcript", sentence: false, translation: "es" });
        const say = (text, separator) => {
            const words = text.split(separator).map((word) => ({ word, start: 1, end: 2, confidence: 1 }));
            captions.handle({ type: "final", utterance: captions.finals.length, text, words, start: 1, end: 2 });
        };
        say("a sentence that is long enough for two lines ".repeat(3).trim(), " ");
        say("你好".repeat(40), "");
        captions.handle({ type: "translation", utterance: 1, language: "es", text: "hola" });
    }""")
    sentence = "a sentence that is long enough for two lines " * 3
    assert page.locator("#others .line").count() > 3
    page.evaluate("() => { getSelection().selectAllChildren(document.body); document.execCommand('copy'); }")
    assert copied(page).splitlines() == [sentence.strip(), "你好" * 40, "hola"]
    page.evaluate("""() => {
        const [first, second] = document.querySelectorAll("#others .line");
        getSelection().setBaseAndExtent(first.lastChild, 0, second.firstChild, 1);
        document.execCommand("copy");
    }""")
    part = copied(page)
    assert "\n" not in part
    assert part in sentence
    assert len(part.split()) == 2
    page.evaluate("""() => {
        getSelection().selectAllChildren(document.querySelector("header"));
        document.execCommand("copy");
    }""")
    assert "Live captions" in copied(page)
