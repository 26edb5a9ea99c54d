"""The figures of docs/measurements.md: `python tests/measure.py` (not part of the test suite; a few minutes).

Word error rates need the speech collection ../shared/speech; without it only the costs are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import jiwer
import numpy as np
import soundfile
from test_speech import SPEECH, listed
from xlsr_live.streaming import Final, Recognizer, SessionConfig, SpeechStarted
from xlsr_live.streaming.vad import FRAME, SileroVad, WebrtcVad


def cost(run: Callable[[], object], times: int) -> float:
    """Least seconds of CPU time of this process for one call: what else the machine does only adds."""
    taken: list[float] = []
    for _ in range(times):
        begun = time.process_time()
        run()
        taken.append(time.process_time() - begun)
    return min(taken)


def costs(recognizer: Recognizer) -> None:
    rng = np.random.default_rng(1)
    frame = (0.1 * rng.standard_normal(FRAME)).astype(np.float32)
    webrtc, silero = WebrtcVad(1), SileroVad()
    print(f"webrtcvad  {1e6 * cost(lambda: [webrtc(frame) for _ in range(100)], 20) / 100:8.1f} us CPU per 30 ms frame")
    print(f"Silero     {1e6 * cost(lambda: [silero(frame) for _ in range(16)], 20) / 15:8.1f} us CPU per 32 ms chunk")
    window = rng.standard_normal(80_000).astype(np.float32)
    for size in (1, 2, 4, 8):
        taken = cost(lambda size=size: recognizer.encoder.encode([window] * size), 5) / size
        print(f"encoder    {1e3 * taken:8.1f} ms CPU per 5 s window in batches of {size}")


def work(recognizer: Recognizer) -> None:
    """CPU time of everything, from samples to events, for each second of a recording of continuous speech."""
    path = SPEECH / "longform" / "26-496.flac"
    samples = soundfile.read(path, dtype="float32", stop=60 * 16_000)[0]
    for name, config in (
        ("defaults (cached)", SessionConfig()),
        ("mode=window", SessionConfig(mode="window")),
        ("finals=append", SessionConfig(finals="append")),
        ("partials=False", SessionConfig(partials=False)),
    ):
        begun = time.process_time()
        recognizer.transcribe(samples, config)
        print(f"{name}: {1e3 * (time.process_time() - begun) / 60:.0f} ms CPU per s of speech")


def digits(recognizer: Recognizer, config: SessionConfig) -> None:
    said, streamed, spans, whole = [], [], [], []
    for path, text in listed("digits"):
        samples, _ = soundfile.read(path, dtype="float32")
        finals = recognizer.transcribe(path, config)
        parts = [recognizer.offline(samples[round(f.start * 16_000) : round(f.end * 16_000)]) for f in finals]
        full = recognizer.offline(path)
        said.append(text)
        streamed.append(" ".join(final.text for final in finals))
        spans.append(" ".join(part.text for part in parts if part))
        whole.append(full.text if full else "")
    print(
        f"digits, vad={config.vad}: WER of streamed finals {100 * jiwer.wer(said, streamed):.2f} %, "
        f"offline on the same spans {100 * jiwer.wer(said, spans):.2f} %, "
        f"offline on whole files {100 * jiwer.wer(said, whole):.2f} %"
    )


def noise(recognizer: Recognizer, config: SessionConfig) -> None:
    opened = worded = 0
    for path, _ in listed("noise"):
        events = list(recognizer.stream(path, config))
        opened += any(isinstance(event, SpeechStarted) for event in events)
        worded += any(isinstance(event, Final) for event in events)
    print(f"noise, vad={config.vad}: of 60 clips {opened} open the gate, {worded} yield a word")


def main() -> None:
    with Recognizer.load(device="cpu", threads=1) as recognizer:
        costs(recognizer)
        if not SPEECH.is_dir():
            print("no ../shared/speech: no error rates")
            return
        work(recognizer)
        for vad in ("cascade", "silero", "webrtc"):
            digits(recognizer, SessionConfig(vad=vad))
            noise(recognizer, SessionConfig(vad=vad, partials=False))


if __name__ == "__main__":
    main()
