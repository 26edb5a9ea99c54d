"""The figures of docs/measurements.md: `python -m tests.figures.measurements` (minutes).

Word error rates need the speech collection (XLSR_LIVE_SPEECH); without it only the costs are measured.
"""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Callable

import jiwer
import numpy as np
import soundfile
from xlsr_live.client.bench.resources import resident_mib
from xlsr_live.streaming import Final, Recognizer, SessionConfig, SpeechStarted
from xlsr_live.streaming.audio.segmenter import Segmenter
from xlsr_live.streaming.audio.vad import FRAME, SileroVad, WebrtcVad, make_vad

from tests.support.paths import DIGITS, SPEECH
from tests.support.speech import MISSING, TABLE, listed


def cost(run: Callable[[], object], times: int) -> float:
    """CPU seconds of this process for one call: the minimum, because other load only adds time."""
    taken: list[float] = []
    for _ in range(times):
        started = time.process_time()
        run()
        taken.append(time.process_time() - started)
    return min(taken)


def costs(recognizer: Recognizer) -> None:
    rng = np.random.default_rng(1)
    for count in (1, 3, 16):
        frames = (0.1 * rng.standard_normal((count, FRAME))).astype(np.float32)
        for name, vad in ("webrtcvad", WebrtcVad(1)), ("Silero", SileroVad()):
            taken = cost(lambda vad=vad, frames=frames: [vad(frames) for _ in range(16)], 20) / 16 / count
            print(f"{name:10} {1e6 * taken:8.1f} us CPU per 30 ms frame, {count} at once")
    for name in ("silero", "cascade"):
        before = resident_mib()
        detectors = [vad for vad in (make_vad(name) for _ in range(1_000)) if vad is not None and vad(frames)]
        print(f"{name:10} {1024 * (resident_mib() - before) / len(detectors):8.1f} KiB of memory per stream")
    window = rng.standard_normal(80_000).astype(np.float32)
    for size in (1, 2, 4, 8):
        taken = cost(lambda size=size: recognizer.encoder.encode([window] * size), 5) / size
        print(f"encoder    {1e3 * taken:8.1f} ms CPU per 5 s window in batches of {size}")


def work(recognizer: Recognizer) -> None:
    """CPU time from samples to events, per second of continuous speech."""
    path = SPEECH / "longform" / "26-496.flac"
    samples = soundfile.read(path, dtype="float32", stop=60 * 16_000)[0]
    for name, config in (
        ("defaults (cached)", SessionConfig()),
        ("mode=window", SessionConfig(mode="window")),
        ("finals=append", SessionConfig(finals="append")),
        ("partials=False", SessionConfig(partials=False)),
        ("partials=False, vad=webrtc", SessionConfig(partials=False, vad="webrtc")),
    ):
        started = time.process_time()
        recognizer.transcribe(samples, config)
        print(f"{name}: {1e3 * (time.process_time() - started) / 60:.0f} ms CPU per s of speech")


def opens(samples: np.ndarray, min_speech_ms: int) -> bool:
    """Whether the default gate with this `min_speech_ms` opens in 16 kHz samples, (n,)."""
    config = SessionConfig(min_speech_ms=min_speech_ms)
    front = Segmenter(config, make_vad(config.vad))
    for at in range(0, len(samples), 16_000):
        front.receive(samples[at : at + 16_000])
    front.finish("end")
    return bool(front.spans)


def onsets() -> None:
    """The trade-off of `min_speech_ms`: noise that opens the gate against single words that do not."""
    noises = [soundfile.read(path, dtype="float32")[0] for path in sorted((SPEECH.parent / "noise").glob("*.opus"))]
    tests = [soundfile.read(path, dtype="float32")[0] for path, _ in listed("noise")]
    shard = SPEECH.parent / "train" / "fsdd-000.opus"
    with (SPEECH.parent / "train" / "train.tsv").open(encoding="utf-8", newline="") as table:
        rows = [r for r in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE) if r["shard"] == shard.name]
    audio = soundfile.read(shard, dtype="float32")[0]
    quiet = (3e-4 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    words = []
    for row in random.Random(1).sample(rows, 120):
        start = int(row["start_sample"])
        words.append(np.concatenate((quiet, audio[start : start + int(row["num_samples"])], quiet)))
    for ms in (90, 150, 210):
        print(
            f"min_speech_ms={ms}: opened by {sum(opens(x, ms) for x in tests)} of {len(tests)} test and "
            f"{sum(opens(x, ms) for x in noises)} of {len(noises)} other noise clips, "
            f"not by {sum(not opens(x, ms) for x in words)} of {len(words)} single digits",
            flush=True,
        )


def digits(recognizer: Recognizer, config: SessionConfig) -> None:
    references, streamed, spans, whole = [], [], [], []
    for path, text in listed("digits"):
        samples, _ = soundfile.read(path, dtype="float32")
        finals = recognizer.transcribe(path, config)
        parts = [recognizer.offline(samples[round(f.start * 16_000) : round(f.end * 16_000)]) for f in finals]
        full = recognizer.offline(path)
        references.append(text)
        streamed.append(" ".join(final.text for final in finals))
        spans.append(" ".join(part.text for part in parts if part))
        whole.append(full.text if full else "")
    print(
        f"digits, vad={config.vad}: WER of streamed finals {100 * jiwer.wer(references, streamed):.2f} %, "
        f"offline on the same spans {100 * jiwer.wer(references, spans):.2f} %, "
        f"offline on whole files {100 * jiwer.wer(references, whole):.2f} %"
    )


def noise(recognizer: Recognizer, config: SessionConfig) -> None:
    opened = worded = 0
    for path, _ in listed("noise"):
        events = list(recognizer.stream(path, config))
        opened += any(isinstance(event, SpeechStarted) for event in events)
        worded += any(isinstance(event, Final) for event in events)
    print(
        f"noise, {config.vad}, min_speech_ms={config.min_speech_ms}: gate opened by {opened} of 60, words in {worded}"
    )


def main() -> None:
    with Recognizer.load(str(DIGITS), device="cpu", threads=1) as recognizer:
        costs(recognizer)
        if not TABLE.is_file():
            print(MISSING)
            return
        work(recognizer)
        onsets()
        noise(recognizer, SessionConfig(min_speech_ms=90, partials=False))
        for vad in ("cascade", "silero", "webrtc"):
            digits(recognizer, SessionConfig(vad=vad))
            noise(recognizer, SessionConfig(vad=vad, partials=False))


if __name__ == "__main__":
    main()
