"""The web page in a real browser: what it shows of a real recording, and what it says when something is wrong."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from websockets.sync.client import connect
from xlsr_live.client.remote.replay import ReplayBuffer
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.captions.cues import cues
from xlsr_live.streaming.captions.subtitles import VTT_HEADER, srt, vtt
from xlsr_live.streaming.protocol.events import Final, SessionEnded, Word, from_json, to_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.browser import INSECURE, chromium, way
from tests.support.paths import CLIPS
from tests.support.serving import serving

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
webvtt = pytest.importorskip("webvtt", reason="needs webvtt-py")

PATIENCE_MS = 60_000  # the machine may be busy
Samples = NDArray[np.int16]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's microphone hears."""
    clips = CLIPS
    quiet = np.zeros(16_000, np.int16)
    parts = [soundfile.read(clips / f"{name}.flac", dtype="int16")[0] for name in ("george", "nicolas")]
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.concatenate([quiet, parts[0], quiet, parts[1], quiet, quiet]), 16_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def said(recognizer: Recognizer, speech: Path) -> list[str]:
    return [final.text for final in recognizer.transcribe(speech)]


@pytest.fixture(scope="module")
def browser(speech: Path) -> Iterator[Any]:
    with chromium(speech) as browser:
        yield browser


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings()) as server:
        yield server


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page in a context of its own. At the end nothing may have gone wrong in any of them."""
    wrong: list[str] = []
    with ExitStack() as stack:

        def open_page(port: int, path: str = "/", *, host: str = "127.0.0.1", microphone: bool = True, **options: Any):
            context = browser.new_context(permissions=["microphone"] if microphone else [], **options)
            stack.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            page = context.new_page()
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda message: wrong.append(message.text) if "Policy" in message.text else None)
            page.goto(f"http://{host}:{port}{path}")
            return page

        yield open_page
    assert not wrong


def wait(page: Any, condition: str) -> None:
    """Playwright's own `wait_for_function` needs what the page's policy forbids."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def wait_for_state(page: Any, state: str) -> None:
    wait(page, f"document.body.dataset.state === {state!r}")


def finals(page: Any) -> list[str]:
    return [text.replace("\n", " ").upper() for text in page.locator(".utterance.final").all_inner_texts()]


def words(texts: list[str]) -> str:
    """Without the times beside them."""
    return " ".join(word for text in texts for word in text.split() if ":" not in word)


def accessible(page: Any) -> None:
    found = axe.Axe().run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def message(page: Any) -> str:
    page.wait_for_selector("#notice:not([hidden])")
    accessible(page)
    return page.inner_text("#notice-title")


# ── speaking ──


def test_text_appears_while_it_is_spoken_and_is_what_transcribe_says(
    opened: Callable[..., Any], server: RunningServer, said: list[str], tmp_path: Path
):
    page = opened(server.port)
    accessible(page)
    page.click("#start")
    page.wait_for_selector(".utterance:not(.final) .word:not(.volatile)")
    assert page.inner_text("#status") == "Listening"
    accessible(page)
    wait(page, f"document.querySelectorAll('.final').length === {len(said)}")
    page.click("#start")
    wait_for_state(page, "idle")
    assert words(finals(page)) == " ".join(said)
    assert page.locator("#finals p").all_inner_texts() == said  # what a screen reader is told: finals, each once

    page.locator(".final .word").first.hover()
    assert page.inner_text("#word-info").startswith("0:01.")
    page.focus("#captions")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.textContent").upper() == said[-1].split()[-1]
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

    assert saved("txt").read_text().splitlines() == said
    for captions in (webvtt.WebVTT().read(saved("vtt")), webvtt.from_srt(saved("srt"))):
        assert " ".join(caption.text.replace("\n", " ") for caption in captions) == " ".join(said)
    document = json.loads(saved("json").read_text())
    assert document["text"] == " ".join(word["word"] for word in document["words"]) == " ".join(said)


def test_what_is_said_while_the_network_is_away_is_not_lost(
    opened: Callable[..., Any], server: RunningServer, said: list[str]
):
    with way(server.port) as through:
        page = opened(through.port, color_scheme="dark")
        page.click("#start")
        page.wait_for_selector(".utterance:not(.final) .word:not(.volatile)")
        accessible(page)
        through.cut()
        wait_for_state(page, "reconnecting")
        assert message(page) == "The connection is interrupted"
        through.mend()
        wait_for_state(page, "live")
        wait(page, f"document.querySelectorAll('.final').length === {len(said)}")
        page.click("#start")
        wait_for_state(page, "idle")
        assert words(finals(page)) == " ".join(said)
        page.close()


def test_nothing_is_lost_when_the_server_has_forgotten_the_session(
    opened: Callable[..., Any], recognizer: Recognizer, said: list[str]
):
    with running_server(recognizer, ServerSettings(resume_grace_s=0.1)) as server, way(server.port) as through:
        page = opened(through.port)
        page.click("#start")
        page.wait_for_selector(".utterance:not(.final) .word:not(.volatile)")
        through.cut()
        wait_for_state(page, "reconnecting")
        page.wait_for_timeout(500)
        through.mend()
        wait_for_state(page, "live")
        wait(page, f"document.querySelectorAll('.final').length === {len(said)}")
        page.click("#start")
        wait_for_state(page, "idle")
        assert words(finals(page)) == " ".join(said)
        times = page.evaluate("[...document.querySelectorAll('.word')].map(({ word }) => word.start)")
        assert times == sorted(times)
        page.close()


def test_a_file_is_captioned_without_a_microphone(
    opened: Callable[..., Any], server: RunningServer, said: list[str], speech: Path
):
    page = opened(server.port, host=INSECURE, microphone=False)
    assert message(page) == "The microphone needs a secure page"
    page.set_input_files("#file", speech)
    page.click("#start")
    wait_for_state(page, "live")
    wait_for_state(page, "idle")
    assert words(finals(page)) == " ".join(said)


# ── what is wrong, in plain words ──


def test_a_blocked_microphone(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port, microphone=False)
    page.click("#start")
    assert message(page) == "The microphone is blocked"


def test_no_microphone(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    refuse = "throw new DOMException('', 'NotFoundError')"
    # As long as the browser asks; the answer comes with `answer`.
    asking = f"new Promise((resolve) => {{ window.answer = resolve; }}).then(() => {{ {refuse}; }})"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = () => {asking}; }}")
    page.click("#start")
    assert "The browser asks first." in page.inner_text("#hint")
    accessible(page)
    page.evaluate("answer()")
    assert message(page) == "No microphone found"


def test_a_full_server_is_asked_again(opened: Callable[..., Any]):
    with serving(max_sessions=1) as server:
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


def test_a_server_that_is_gone(opened: Callable[..., Any]):
    with serving() as server:
        page = opened(server.port)
    page.click("#start")
    assert message(page) == "The server does not answer"


# ── reading ──

WATCH_LINES = """() => {
    // Where every line of finished text first was in the text, and which of them are no longer there.
    const box = document.getElementById("captions"), places = new Map(), moved = [];
    const look = () => {
        const top = box.getBoundingClientRect().top - box.scrollTop;
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


def test_no_line_of_finished_text_moves_and_the_reader_is_left_alone(
    opened: Callable[..., Any], server: RunningServer, clip: Callable[[str], Samples]
):
    quiet = np.zeros(12_000, np.int16)
    talk = np.concatenate([part for name in ("george", "jackson", "nicolas") for part in (clip(name), quiet)])
    # Without gaps as well: utterances of several lines.
    talk = np.concatenate([talk, *[clip(name)[2_000:-2_000] for name in ("george", "jackson", "nicolas")]])
    with connect(server.url, compression=None, ping_timeout=None) as owner:
        owner.send('{"type":"start","share":true}')
        key = json.loads(owner.recv())["share"]
        page = opened(server.port, f"/view#{key}", viewport={"width": 420, "height": 360})
        overlay = opened(server.port, f"/overlay?lines=3&size=32#{key}", viewport={"width": 640, "height": 360})
        page.evaluate(WATCH_LINES)
        texts: list[str] = []

        def speak(samples: Samples) -> None:
            """And listen until all is said."""
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

        accessible(overlay)
        assert overlay.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
        assert overlay.evaluate("captions.clientHeight") == round(3 * 1.4 * 32)
        assert texts[-1].endswith(overlay.locator(".line").last.inner_text().upper())

        owner.send('{"type":"end"}')
        ended = [event for event in map(from_json, owner) if isinstance(event, Final | SessionEnded)]
    wait_for_state(page, "ended")
    seen = page.evaluate("seen")  # before axe looks around
    assert message(page) == "The session has ended"
    assert [type(event) for event in ended] == [SessionEnded]
    assert words(finals(page)) == " ".join(texts)
    assert seen["lines"] > 10
    assert seen["moved"] == []

    assert page.evaluate("Math.max(...[...document.querySelectorAll('.line')].map((line) => line.offsetWidth))") > 340
    page.click("#refit")  # the reader's own choice
    assert page.evaluate("Math.max(...[...document.querySelectorAll('.line')].map((line) => line.offsetWidth))") < 340
    assert words(finals(page)) == " ".join(texts)


def test_a_link_that_is_good_for_nothing(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port, "/view#nothing")
    assert message(page) == "Nothing is shared under this link"
    overlay = opened(server.port, "/overlay")
    assert "overlay for OBS" in overlay.inner_text("#help")
    accessible(overlay)


# ── its parts ──


def test_lines_hold_all_words_in_order_and_what_is_set_stays(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    broken = page.evaluate("""async () => {
        const { breakLines, aligned } = await import("/page/lines.js");
        const fits = (text) => text.length <= 20;
        const failures = [];
        for (let round = 0; round < 300; round += 1) {
            const length = () => 1 + Math.floor(8 * Math.random());
            const words = Array.from({ length: 30 }, () => "x".repeat(length()));
            const whole = breakLines(words, " ", fits);
            for (let count = 0; count <= 30; count += 1) {
                const some = breakLines(words.slice(0, count), " ", fits);
                if (String(some) !== String(whole.filter((at) => at < count))) failures.push("a line changed");
            }
            whole.forEach((first, row) => {
                const line = words.slice(first, whole[row + 1]).join(" ");
                if (!fits(line)) failures.push(line);
            });
            const other = [...words];
            other.splice(Math.floor(30 * Math.random()), 1 + Math.floor(2 * Math.random()), "y");
            const places = aligned(words, other).filter((at) => at !== null);
            if (places.some((at, index) => index && at <= places[index - 1])) failures.push("out of order");
            if (aligned(words, words).some((at, index) => at !== index)) failures.push("not the same");
        }
        return failures;
    }""")
    assert broken == []


def test_what_is_sent_again_is_what_the_python_client_would_send(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    rng = random.Random(1)
    script = [rng.choice([2 * rng.randrange(1, 30), "mark"]) for _ in range(80)]
    total = sum(size for size in script if isinstance(size, int)) // 2
    asked = sorted(rng.randrange(total + 1) for _ in range(10))
    replay = ReplayBuffer(2)
    for step in script:
        replay.add(bytes(step) if isinstance(step, int) else step)
    expected = [[part if isinstance(part, str) else len(part) for part in replay.since(at)] for at in asked]
    got = page.evaluate(
        """async ([script, asked]) => {
        const { Replay } = await import("/page/replay.js");
        const replay = new Replay();
        for (const step of script) replay.add(typeof step === "string" ? step : new Uint8Array(step));
        const rest = (at) => replay.since(at).map((part) => (typeof part === "string" ? part : part.length));
        const resent = asked.map(rest);
        // To a server that has forgotten the session: what no final covers, whether it was heard or not.
        const unfinished = asked.map((at) => {
            replay.finish(at + 0.5);
            const { parts, from } = replay.unfinished();
            return [from, parts.reduce((sum, part) => sum + part.length, 0)];
        });
        return [resent, unfinished];
    }""",
        [script, asked],
    )
    assert got == [expected, [[at, 2 * (total - at)] for at in asked]]


def test_subtitles_are_those_of_transcribe(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    rng = random.Random(2)
    texts = ["I", "the", "and", "BECAUSE", "of", "was", "house", "<i>", "fish&", "\N{GRINNING FACE}", "don't", "x" * 60]
    finals, now = [], 0.0
    for number in range(60):
        words = []
        for _ in range(rng.randrange(1, 40)):
            now = round(now + rng.choice([0.0, 0.02, 0.1, 0.3, 1.3]), 3)
            end = round(now + rng.uniform(0.05, 0.6), 3)
            words.append(Word(rng.choice(texts), now, end, 0.9))
            now = end
        text = rng.choice([" ", " ", ""]).join(word.word for word in words)
        final = Final(utterance=number, text=text, words=tuple(words), start=0.0, end=now + 0.2, confidence=0.9)
        finals.append(final)
        now += 0.3
    made = page.evaluate(
        """async (finals) => {
        const { FORMATS } = await import("/page/download.js");
        return [FORMATS.vtt.write(finals), FORMATS.srt.write(finals)];
    }""",
        [json.loads(to_json(final)) for final in finals],
    )
    found = list(cues(finals))
    assert len(found) > 100
    assert made[0] == VTT_HEADER + "".join(map(vtt, found))
    assert made[1] == "".join(srt(number, cue) for number, cue in enumerate(found, 1))
