"""Debian's Chromium with a recording as its microphone, and queries on the web page."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
INSECURE = "captions.local"  # resolves to this machine but, unlike localhost, is no secure context
TIMEOUT_MS = 60_000  # for busy machines


@contextmanager
def chromium(microphone: Path) -> Generator[Any]:
    """A Playwright browser; skips where there is none. `microphone` is a 16-bit WAV file, which plays once."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("needs Chromium (Debian's package chromium)")
    arguments = [
        "--no-sandbox",
        "--disable-dev-shm-usage",  # /dev/shm is small in containers
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        f"--host-resolver-rules=MAP {INSECURE} 127.0.0.1",
    ]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


def wait(page: Any, condition: str | Callable[[], object]) -> None:
    """Wait until a function or JavaScript holds. The page's policy forbids Playwright's own `wait_for_function`."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while not (condition() if callable(condition) else page.evaluate(condition)):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def wait_for_state(page: Any, state: str) -> None:
    wait(page, f"document.body.dataset.state === {state!r}")


def start_translated(page: Any, *languages: str) -> str:
    """Start a shared session with translations on the speaker's page; returns the key for readers."""
    page.click("#translate-button")
    for language in languages:
        page.check(f"#languages [value={language}]")
    page.keyboard.press("Escape")
    page.click("#share")
    page.check("#share-on")
    page.keyboard.press("Escape")
    page.click("#start")
    page.wait_for_selector("#links:not([hidden])", state="attached")
    return page.get_attribute("#view-link", "href").partition("#")[2]


def finals(page: Any) -> list[str]:
    """The text of finished utterances."""
    return [text.replace("\n", " ").upper() for text in page.locator(".utterance.final").all_inner_texts()]


def words(texts: list[str]) -> str:
    """The words of texts, without the times."""
    return " ".join(word for text in texts for word in text.split() if ":" not in word)


def accessible(page: Any) -> None:
    """Assert that axe finds nothing serious."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def message(page: Any) -> str:
    """The title of the message that the page shows."""
    page.wait_for_selector("#notice:not([hidden])")
    accessible(page)
    return page.inner_text("#notice-title")
