"""The page's messages when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from websockets.sync.client import connect
from xlsr_live.server.run import RunningServer

from tests.support.browser import accessible, message, wait, wait_for_state
from tests.support.noise import noise
from tests.support.serving import serving


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise that outlasts every test: a microphone without any sound has a message of its own."""
    path = tmp_path_factory.mktemp("speech") / "noise.wav"
    soundfile.write(path, noise(180 * 16_000, level=0.01), 16_000, subtype="PCM_16")
    return path


def test_a_blocked_microphone(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port, microphone=False)
    page.click("#start")
    assert message(page) == "The microphone is blocked"


def test_no_microphone(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    refuse = "throw new DOMException('', 'NotFoundError')"
    # The browser asks the user until `answer` is called.
    asking = f"new Promise((resolve) => {{ window.answer = resolve; }}).then(() => {{ {refuse}; }})"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = () => {asking}; }}")
    page.click("#start")
    assert "Allow the microphone, then speak." in page.text_content("#hint")
    accessible(page)
    wait(page, "'answer' in window")
    page.evaluate("answer()")
    assert message(page) == "No microphone found"


def test_a_full_server_is_tried_again(opened: Callable[..., Any]):
    with serving(max_sessions=1, request_timeout_s=60) as server:
        with connect(server.url):
            page = opened(server.port)
            page.click("#start")
            assert message(page) == "The server is full"
            wait(page, "document.getElementById('countdown').textContent === 'Trying again in 4 s.'")
        wait_for_state(page, "live")
        assert page.is_hidden("#notice")
        page.click("#start")
        wait_for_state(page, "idle")


def test_a_token(opened: Callable[..., Any]):
    with serving(token="s3cret") as server:
        page = opened(server.port)
        page.click("#start")
        assert message(page) == "This server asks for a token"
        page.fill("#token", "secret")
        page.keyboard.press("Enter")
        wait(page, "document.getElementById('notice-title').textContent === 'The token is not right'")
        accessible(page)
        page.fill("#token", "s3cret")
        page.keyboard.press("Enter")
        wait_for_state(page, "live")
        page.click("#start")
        wait_for_state(page, "idle")


def test_a_server_that_has_stopped(opened: Callable[..., Any]):
    with serving() as server:
        page = opened(server.port)
    page.click("#start")
    assert message(page) == "The server does not answer"


def test_a_very_quiet_voice(opened: Callable[..., Any], server: RunningServer):
    def route(client: Any) -> None:
        remote = client.connect_to_server()

        def forward(message: str) -> None:
            client.send(message)
            if json.loads(message)["type"] == "session_started":
                client.send('{"type": "warning", "code": "very_quiet", "message": "the speech is very quiet"}')

        remote.on_message(forward)

    page = opened(server.port)
    page.route_web_socket("**/v1/stream", route)
    page.reload()
    page.click("#start")
    assert message(page) == "The speech is very quiet"
    assert page.get_attribute("#notice", "data-kind") == "warning"
    wait(page, "document.getElementById('status').textContent === 'Listening'")
    page.click("#start")
    wait_for_state(page, "idle")
    assert page.is_hidden("#notice")
