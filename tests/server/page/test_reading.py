"""Reading: the pages for viewers of a shared session."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from websockets.sync.client import connect
from xlsr_live.server.run import RunningServer
from xlsr_live.streaming.protocol.events import Final, SessionEnded, from_json

from tests.support.browser import accessible, finals, message, wait, wait_for_state, words

Samples = NDArray[np.int16]
REPEATS = 20  # of the clip: there is speech left, however late a reader comes

WATCH_LINES = """() => {
    // Record the first place of every finished line below the first one, and the lines that moved or disappeared.
    const box = document.getElementById("captions"), places = new Map(), moved = [];
    const look = () => {
        const top = box.querySelector(".final .line")?.getBoundingClientRect().top;
        for (const line of box.querySelectorAll(".final .line")) {
            const at = line.getBoundingClientRect();
            const place = JSON.stringify([at.x, Math.round(4 * (at.y - top)) / 4, at.width, line.textContent]);
            if (!places.has(line)) places.set(line, place);
            else if (places.get(line) !== place) moved.push([places.get(line), place]);
        }
        for (const line of places.keys()) if (!line.isConnected) moved.push([places.get(line), null]);
        window.seen = { lines: places.size, moved };
        requestAnimationFrame(look);
    };
    look();
}"""


@pytest.fixture(scope="module")
def speech(clip: Callable[[str], Samples], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.concatenate([np.zeros(16_000, np.int16), clip("george")] * REPEATS), 16_000)
    return path


def test_finished_lines_never_move_and_scrolling_stays(
    opened: Callable[..., Any], server: RunningServer, clip: Callable[[str], Samples]
):
    quiet = np.zeros(12_000, np.int16)
    talk = np.concatenate([part for name in ("george", "jackson", "nicolas") for part in (clip(name), quiet)])
    # And without gaps: utterances of several lines.
    talk = np.concatenate([talk, *[clip(name)[2_000:-2_000] for name in ("george", "jackson", "nicolas")]])
    with connect(server.url, compression=None, ping_timeout=None) as owner:
        owner.send('{"type":"start","share":true}')
        key = json.loads(owner.recv())["share"]
        page = opened(server.port, f"/view#{key}", viewport={"width": 420, "height": 360})
        overlay = opened(server.port, f"/overlay?lines=3&size=32&hold=0#{key}", viewport={"width": 640, "height": 360})
        page.evaluate(WATCH_LINES)
        texts: list[str] = []

        def speak(samples: Samples) -> None:
            """Send audio and receive until its last final."""
            for start in range(0, len(samples), 8_000):
                owner.send(samples[start : start + 8_000].tobytes())
            owner.send('{"type":"flush"}')
            event: dict[str, Any] = {}
            while event.get("reason") != "flush":
                event = json.loads(owner.recv())
                texts.extend([event["text"]] if event.get("type") == "final" else [])
            wait(page, f"document.querySelectorAll('.final').length === {len(texts)}")

        speak(talk)
        assert page.evaluate("captions.scrollHeight > captions.clientHeight + 100")
        assert page.evaluate("captions.scrollHeight - captions.scrollTop - captions.clientHeight") < 2
        page.evaluate("captions.scrollTop = 0")
        page.wait_for_selector("#to-live")
        accessible(page)
        page.set_viewport_size({"width": 340, "height": 300})
        speak(talk)
        assert page.evaluate("captions.scrollTop") == 0
        page.click("#to-live")
        page.wait_for_selector("#to-live", state="hidden")
        assert page.evaluate("captions.scrollHeight - captions.scrollTop - captions.clientHeight") < 2

        wait(overlay, f"document.querySelectorAll('.final').length === {len(texts)}")
        accessible(overlay)
        assert overlay.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
        assert overlay.evaluate("captions.clientHeight") == round(3 * 1.4 * 32)
        assert texts[-1].endswith(overlay.locator(".line").last.inner_text().upper())

        owner.send('{"type":"end"}')
        ended = [event for event in map(from_json, owner) if isinstance(event, Final | SessionEnded)]
    wait_for_state(page, "ended")
    seen = page.evaluate("seen")  # before axe scrolls
    assert message(page) == "The session has ended"
    assert [type(event) for event in ended] == [SessionEnded]
    assert words(finals(page)) == " ".join(texts)
    assert seen["lines"] > 10
    assert seen["moved"] == []

    assert page.evaluate("Math.max(...[...document.querySelectorAll('.line')].map((line) => line.offsetWidth))") > 340
    page.click("#refit")  # only on request
    assert page.evaluate("Math.max(...[...document.querySelectorAll('.line')].map((line) => line.offsetWidth))") < 340
    assert words(finals(page)) == " ".join(texts)


def test_a_running_session_can_be_shared(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    page.click("#start")
    page.wait_for_selector(".utterance.final")
    page.click("#share")
    page.fill("#title", "Digits")
    page.check("#share-on")
    page.wait_for_selector("#links:not([hidden])")
    assert page.is_hidden("#qr")  # of a link that works only on this computer
    page.fill("#address", "192.168.1.20")
    link = page.get_attribute("#view-link", "href")
    assert link.startswith(f"http://192.168.1.20:{server.port}/view#")
    assert "127.0.0.1" in page.get_attribute("#overlay-link", "href")
    modules = page.evaluate("document.getElementById('qr').width")
    assert modules > 2 * 4 + 21  # the margin, and more than the smallest code
    accessible(page)
    page.keyboard.press("Escape")

    view = opened(server.port, f"/view#{link.partition('#')[2]}")
    wait(view, "document.title === 'Digits'")
    assert view.inner_text("#began").startswith("since ")
    accessible(view)
    page.click("#share")
    page.fill("#title", "Numbers")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    wait(view, "document.getElementById('title').textContent === 'Numbers'")
    view.wait_for_selector(".utterance")  # what is said from now on
    page.click("#share")
    page.uncheck("#share-on")
    page.wait_for_selector("#links", state="hidden")
    wait_for_state(view, "ended")
    page.check("#share-on")
    page.wait_for_selector("#links:not([hidden])")
    assert page.get_attribute("#view-link", "href") != link
    page.keyboard.press("Escape")
    page.click("#start")
    wait_for_state(page, "idle")
    assert page.is_hidden("#links")


def test_an_invalid_link(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port, "/view#nothing")
    assert message(page) == "Nothing is shared under this link"
    overlay = opened(server.port, "/overlay")
    assert "overlay for OBS" in overlay.inner_text("#help")
    accessible(overlay)
