"""A browser, a server and a recording for the tests of the web page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.browser import TIMEOUT_MS, chromium
from tests.support.paths import CLIPS


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording that the browser's microphone plays."""
    quiet = np.zeros(16_000, np.int16)
    parts = [soundfile.read(CLIPS / f"{name}.flac", dtype="int16")[0] for name in ("george", "nicolas")]
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.concatenate([quiet, parts[0], quiet, parts[1], quiet, quiet]), 16_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def transcript(recognizer: Recognizer, speech: Path) -> list[str]:
    """The text of its utterances."""
    return [final.text for final in recognizer.transcribe(speech)]


@pytest.fixture(scope="module")
def browser(speech: Path) -> Iterator[Any]:
    pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    with chromium(speech) as browser:
        yield browser


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings()) as server:
        yield server


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page in a new context. Script errors and policy violations fail the test."""
    problems: list[str] = []
    with ExitStack() as stack:

        def open_page(port: int, path: str = "/", *, host: str = "127.0.0.1", microphone: bool = True, **options: Any):
            context = browser.new_context(permissions=["microphone"] if microphone else [], **options)
            stack.callback(context.close)
            context.set_default_timeout(TIMEOUT_MS)
            page = context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda message: problems.append(message.text) if "Policy" in message.text else None)
            page.goto(f"http://{host}:{port}{path}")
            return page

        yield open_page
    assert not problems
