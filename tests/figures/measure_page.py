"""Latency of the web page from the end of a spoken word to its committed text on the screen, and from Start.

    python -m tests.figures.measure_page
    python -m tests.figures.measure_page --starts 20

`--starts` presses Start so often while somebody speaks from the first sample of the microphone. It prints the audio and
the words that are lost there.

A real browser receives real speech through its microphone in real time. Word ends come from the events, in audio time.
The page cannot send a sample before its audio time has passed since the first sample, so the smallest delay of a packet
sets the zero of the audio clock. A word is visible when the browser has painted the frame that removes its `volatile`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile
from numpy.typing import NDArray
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.server.run import running_server
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.browser import chromium, finals, words
from tests.support.speech import require_speech

ONSET = 300  # amplitude of the first sample of speech
LEAD = 1_600  # samples before it: a tenth of a second
WATCH = """
    window.measured = { start: 0, sent: [], events: [], painted: [], audio: [] };
    const samples = { sent: 0 };
    addEventListener("click", ({ timeStamp }) => { measured.start ||= timeStamp; }, { capture: true });
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
        if (typeof data !== "string") {
            samples.sent += data.length / 2;
            measured.sent.push([performance.now(), samples.sent / 16]);
            if (samples.sent <= 32_000) measured.audio.push(...new Int16Array(data.slice().buffer));
        }
        return send.call(this, data);
    };
    const handler = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage").set;
    Object.defineProperty(WebSocket.prototype, "onmessage", { set(listener) {
        handler.call(this, listener && ((message) => {
            const { type, lag_ms } = JSON.parse(message.data);
            if (type === "partial" || type === "final") measured.events.push([performance.now(), lag_ms]);
            listener.call(this, message);
        }));
    } });
    addEventListener("DOMContentLoaded", () => {
        const known = new Set();
        const after = new MessageChannel();  // its messages come when the frame has been painted
        let fresh = [];
        after.port1.onmessage = () => {
            for (const [event, end] of fresh) measured.painted.push([performance.now(), event, end]);
            fresh = [];
        };
        new MutationObserver(() => {
            const utterances = [...document.querySelectorAll(".utterance")];
            const last = utterances.length - 1;
            utterances.at(-1)?.querySelectorAll(".word:not(.volatile)").forEach((element, at) => {
                const name = `${last} ${at}`;
                if (known.has(name)) return;
                known.add(name);
                fresh.push([measured.events.length - 1, 1000 * element.word.end]);
            });
            if (fresh.length) after.port2.postMessage(null);
        }).observe(document.getElementById("captions"), { childList: true, subtree: true, attributes: true });
    });
"""


def recording(seconds: int, folder: Path) -> Path:
    parts: list[NDArray[np.int16]] = [np.zeros(16_000, np.int16)]
    for path in sorted((require_speech() / "an4").rglob("*.flac")):
        parts += [soundfile.read(path, dtype="int16")[0], np.zeros(8_000, np.int16)]
    soundfile.write(folder / "speech.wav", np.concatenate(parts)[: 16_000 * seconds], 16_000, subtype="PCM_16")
    return folder / "speech.wav"


def listen(recognizer: Recognizer, seconds: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium(recording(seconds, Path(folder))) as browser,
        running_server(recognizer) as server,
    ):
        page = browser.new_context(permissions=["microphone"]).new_page()
        page.add_init_script(WATCH)
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.click("#start")
        page.wait_for_timeout(1_000 * seconds)
        return page.evaluate("measured")


def lost_audio(sent: NDArray[np.int16], spoken: NDArray[np.int16]) -> float:
    """Milliseconds of the recording before the first sample that was sent. The first samples of a device may be
    distorted, so a later second is placed in the recording where both correlate best.
    """
    skipped = 8_000
    part = sent[skipped : skipped + 16_000].astype(np.float64)
    place = int(np.argmax(np.correlate(spoken.astype(np.float64), part, "valid")))
    return max(0.0, (place - skipped) / 16)


def lost_words(text: str, expected: str) -> int:
    """Words that miss before the first one that is right."""
    missing = 0
    for chunk in jiwer.process_words(expected, text).alignments[0]:
        if chunk.type == "equal":
            break
        missing += (chunk.ref_end_idx - chunk.ref_start_idx) - (chunk.hyp_end_idx - chunk.hyp_start_idx)
    return max(0, missing)


def measure_starts(recognizer: Recognizer, starts: int) -> None:
    """Press Start while a packaged clip plays in the microphone."""
    delays: dict[str, list[float]] = {"first packet": [], "first word": [], "audio lost (ms of it)": []}
    missing = 0
    clips = [clip for clip in load_clips() if clip.text]
    with tempfile.TemporaryDirectory() as folder, running_server(recognizer) as server:
        for number, clip in enumerate(clips):
            spoken = soundfile.read(clip.path, dtype="int16")[0]
            spoken = spoken[max(0, np.argmax(np.abs(spoken) > ONSET) - LEAD) :]
            path = Path(folder) / "speech.wav"
            soundfile.write(path, np.concatenate([spoken, np.zeros(32_000, np.int16)]), 16_000, subtype="PCM_16")
            with chromium(path) as browser:
                for _ in range(number, starts, len(clips)):
                    measured, text = press_start(browser, server.port)
                    delays["first packet"].append(measured["sent"][0][0] - measured["start"])
                    delays["first word"].append(measured["painted"][0][0] - measured["start"])
                    delays["audio lost (ms of it)"].append(lost_audio(np.array(measured["audio"], np.int16), spoken))
                    lost = lost_words(text, clip.text.upper())
                    missing += lost
                    print(f"{lost} lost of {clip.text!r}: {text!r}", flush=True)
    print(f"{starts} starts, {missing} words lost")
    for name, values in delays.items():
        print(f"{name}: p50 {np.median(values):.0f} ms, at most {max(values):.0f} ms")


def press_start(browser: Any, port: int) -> tuple[dict[str, Any], str]:
    """What `WATCH` measures, and the text of the first utterance."""
    context = browser.new_context(permissions=["microphone"])
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(f"http://127.0.0.1:{port}/")
    page.click("#start")
    page.wait_for_selector(".utterance.final")
    text = words(finals(page))
    measured = page.evaluate("measured")
    context.close()
    return measured, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--starts", type=int, help="measure so many starts instead")
    options = parser.parse_args()
    with Recognizer.load(options.model, device="cpu", lm="none") as recognizer:
        if options.starts:
            return measure_starts(recognizer, options.starts)
        measured = listen(recognizer, options.seconds)
    first = min(at - spoken for at, spoken in measured["sent"])  # start of the audio on the clock of the page, ms
    rows = {"spoken to painted": [], "of it: server": [], "of it: page": []}
    for painted, event, end in measured["painted"]:
        arrived, lag = measured["events"][event]
        for row, value in zip(rows.values(), (painted - (first + end), lag, painted - arrived), strict=True):
            row.append(value)
    print(f"{len(measured['painted'])} words")
    for name, values in rows.items():
        p50, p95 = np.percentile(values, [50, 95])
        print(f"{name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms")


if __name__ == "__main__":
    main()
