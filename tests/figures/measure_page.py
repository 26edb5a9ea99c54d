"""Latency of the web page from the end of a spoken word to its committed text on the screen.

    python -m tests.figures.measure_page

A real browser receives real speech through its microphone in real time. Word ends come from the events, in audio time.
The page cannot send a sample before its audio time has passed since the first sample, so the smallest delay of a packet
sets the zero of the audio clock. A word is visible when the browser has painted the frame that removes its `volatile`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from xlsr_live.server.run import running_server
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.browser import chromium
from tests.support.speech import require_speech

WATCH = """
    window.measured = { sent: [], events: [], painted: [] };
    const samples = { sent: 0 };
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
        if (typeof data !== "string") {
            samples.sent += data.length / 2;
            measured.sent.push([performance.now(), samples.sent / 16]);
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--seconds", type=int, default=120)
    options = parser.parse_args()
    with Recognizer.load(options.model, device="cpu", lm="none") as recognizer:
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
