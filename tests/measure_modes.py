"""Cached mode against window mode: `python tests/measure_modes.py [MODEL]` (not part of the test suite; some minutes).

For each recording of connected digits as one utterance: what the live steps commit, held against one offline pass of
the same checkpoint over the whole recording, and what they cost. Modes and settings take turns on every recording, so
that whatever else the machine does falls on all of them. Needs the speech collection ../shared/speech.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import jiwer
import numpy as np
import soundfile
import torch
from test_speech import listed
from xlsr_live.streaming import Recognizer, SessionConfig
from xlsr_live.streaming.decode import decode
from xlsr_live.streaming.normalize import RunningNormalizer, normalize
from xlsr_live.streaming.windows import Memory, Reuse, Window, WindowPlanner
from xlsr_live.streaming.xlsr import XlsrEncoder

Float32 = np.ndarray
Mode = Literal["window", "cached"]
SETTINGS = [(480, 480, 4_000), (320, 320, 4_000), (200, 200, 4_000), (480, 480, 1_000)]  # hop, lookahead, left: ms


@dataclass
class Sums:
    frames: int = 0
    agreeing: int = 0
    encoded: int = 0  # frames that went through the layers
    cpu: float = 0.0  # seconds, of the encoder alone
    texts: list[str] = field(default_factory=list)


def windows(samples: Float32, setting: tuple[int, int, int]) -> tuple[list[Window], RunningNormalizer]:
    """The steps of an utterance and its audio as they hear it: the scale of a sample is that of its first step."""
    hop, lookahead, left = (x // 20 for x in setting)
    planner, audio = WindowPlanner(hop=hop, lookahead=lookahead, left_context=left), RunningNormalizer()
    steps: list[Window] = []
    while planner.due <= len(samples):
        audio.extend(samples[audio.length : planner.due])
        steps += planner.plan(audio.length)
    audio.extend(samples[audio.length :])
    rest = planner.finish(audio.length)
    return [*steps, rest] if rest else steps, audio


def stepped(encoder: XlsrEncoder, mode: Mode, steps: list[Window], audio: RunningNormalizer, left: int) -> Float32:
    """Log-probabilities of all frames, each by the step that commits it."""
    memory = Memory(left, max(w.newest - w.commit for w in steps))
    rows: list[Float32] = []
    for w in steps:
        if mode == "cached":
            (answer,) = encoder.advance([(audio.read(*w.new_samples), Reuse(memory, w))])
        else:
            answer = encoder.encode([audio.read(*w.samples)])[0][w.committed - w.first :]
        rows.append(answer[: w.commit - w.committed])
    encoder.release(memory.number)
    return np.concatenate(rows)


def accuracy(encoder: XlsrEncoder) -> None:
    results = {(setting, mode): Sums() for setting in SETTINGS for mode in ("window", "cached")}
    said: list[str] = []
    offline: list[str] = []
    seconds = 0.0
    for path, text in listed("digits"):
        samples, _ = soundfile.read(path, dtype="float32")
        seconds += len(samples) / 16_000
        (whole,) = encoder.encode([normalize(samples)])
        said.append(text)
        offline.append(spoken(encoder, whole))
        for (setting, mode), sums in results.items():
            steps, audio = windows(samples, setting)
            begun = time.process_time()
            rows = stepped(encoder, mode, steps, audio, setting[2] // 20)
            sums.cpu += time.process_time() - begun
            sums.frames += len(rows)
            sums.agreeing += int((rows.argmax(1) == whole.argmax(1)).sum())
            sums.encoded += sum(w.newest - (w.committed if mode == "cached" else w.first) for w in steps)
            sums.texts.append(spoken(encoder, rows))
    print(f"{len(said)} recordings, {seconds:.0f} s; offline WER {100 * jiwer.wer(said, offline):.2f} %")
    print("hop, lookahead, left | mode | frames as offline | WER | WER to offline | passes per frame | core-s per s")
    for (setting, mode), sums in results.items():
        wer = 100 * jiwer.wer(said, sums.texts)
        print(
            f"{setting} | {mode} | {100 * sums.agreeing / sums.frames:.2f} % | {wer:.2f} %"
            f" | {100 * jiwer.wer(offline, sums.texts):.2f} % | {sums.encoded / sums.frames:.2f}"
            f" | {sums.cpu / seconds:.4f}"
        )


def spoken(encoder: XlsrEncoder, rows: Float32) -> str:
    return encoder.vocabulary.join(word.text for word in decode(rows, encoder.vocabulary))


def cost(recognizer: Recognizer) -> None:
    """Everything that a session costs: gate, steps, decoding and, with finals=full, the second pass."""
    recordings = [soundfile.read(path, dtype="float32")[0] for path, _ in listed("digits")]
    seconds = sum(map(len, recordings)) / 16_000
    configs = {
        (finals, mode): SessionConfig(mode=mode, finals=finals)
        for finals in ("full", "append")
        for mode in ("window", "cached")
    }
    taken = dict.fromkeys(configs, 0.0)
    for samples in recordings:
        for key, config in configs.items():
            taken[key] += timed(lambda config=config, samples=samples: recognizer.transcribe(samples, config))
    for (finals, mode), cpu in taken.items():
        print(f"sessions, finals={finals}, {mode}: {cpu / seconds:.4f} core-seconds per second of audio")


def steady(encoder: XlsrEncoder) -> None:
    """Of utterances so long that nearly every window has its whole left context: the 5 s of a plain sliding window."""
    audio = np.concatenate([soundfile.read(path, dtype="float32")[0] for path, _ in listed("digits")[:12]])
    taken = {"window": 0.0, "cached": 0.0}
    starts = range(0, len(audio) - 320_000, 320_000)
    for at in starts:
        steps, heard = windows(audio[at : at + 320_000], SETTINGS[0])
        for mode in taken:
            taken[mode] += timed(lambda mode=mode, steps=steps, heard=heard: stepped(encoder, mode, steps, heard, 200))
    each = {mode: cpu / (20 * len(starts)) for mode, cpu in taken.items()}
    print(f"utterances of 20 s, {SETTINGS[0]}: {each['window']:.4f} and {each['cached']:.4f} core-seconds per second")


def timed(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def main() -> None:
    torch.set_num_threads(1)
    with Recognizer.load(sys.argv[1] if len(sys.argv) > 1 else "bundled", device="cpu") as recognizer:
        steady(recognizer.encoder)
        accuracy(recognizer.encoder)
        cost(recognizer)


if __name__ == "__main__":
    main()
