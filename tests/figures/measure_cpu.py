"""Number formats on a processor: `python -m tests.figures.measure_cpu [ROUNDS]` (not part of the test suite; minutes).

One thread; formats alternate. Measures the speed of XLS-R 300M with random weights (writes 1.3 GB to a temporary
folder), and compares the words of the digits model on connected digits of the speech collection with float32.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np
import soundfile
import torch
from xlsr_live.client.bench.steps import StepSetting, greedy_text, offline_pass, run_steps, timed
from xlsr_live.streaming import Recognizer
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.int8 import supported
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.requests import CachedStep, CacheHandle, Window

from tests.support.checkpoints import XLSR_300M, publish
from tests.support.paths import DIGITS
from tests.support.speech import listed

SETTING = StepSetting(480, 480, 4_000)
FORMATS = ("float32", "bfloat16", *(["int8"] if supported() else []))


def step(encoder: XlsrEncoder, size: int) -> float:
    """CPU seconds of one live step in the middle of `size` utterances: 24 frames, 24 of lookahead, 200 before."""
    memories = [CacheHandle(200, 24) for _ in range(size)]
    audio = np.random.default_rng(1).standard_normal(24 * 320 + 80).astype(np.float32)
    taken: list[float] = []
    for k in range(4):  # all but the first cost the same: missing keys are masked
        newest, commit, committed = 24 * (k + 1), 24 * k, max(24 * (k - 1), 0)
        window = Window(step=k, first=0, committed=committed, commit=commit, newest=newest, encoded=24 * k)
        batch = [(audio, CachedStep(memory, window)) for memory in memories]
        taken.append(timed(lambda batch=batch: encoder.encode_steps(batch))[1])
    for memory in memories:
        encoder.release(memory.number)
    return min(taken[1:])


def speed(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder), XLSR_300M)
        encoders = {name: load(ModelOptions(folder, device="cpu", dtype=name)) for name in FORMATS}
    audio = np.random.default_rng(0).standard_normal(80_000).astype(np.float32)
    works: dict[str, Callable[[XlsrEncoder], float]] = {
        "a pass over 5 s": lambda encoder: timed(lambda: encoder.encode([audio]))[1],
        "a live step": lambda encoder: step(encoder, 1),
        "a live step, each of a batch of 4": lambda encoder: step(encoder, 4) / 4,
    }
    for name, work in works.items():
        taken = dict.fromkeys(FORMATS, float("inf"))
        for _ in range(rounds):
            for form, encoder in encoders.items():
                taken[form] = min(taken[form], work(encoder))
        each = (f"{form} {1e3 * least:.0f} ms ({taken['float32'] / least:.1f})" for form, least in taken.items())
        print(f"XLS-R 300M, {name}: {', '.join(each)}", flush=True)


def words() -> None:
    recognizers = {name: Recognizer.load(str(DIGITS), device="cpu", dtype=name) for name in FORMATS}
    texts: dict[tuple[str, str], list[str]] = {(form, kind): [] for form in FORMATS for kind in ("offline", "live")}
    same = dict.fromkeys(texts, 0)
    frames, cost, references = 0, dict.fromkeys(FORMATS, 0.0), []
    for path, text in listed("digits"):
        samples, _ = soundfile.read(path, dtype="float32")
        references.append(text)
        reference: dict[str, np.ndarray] = {}
        for form, recognizer in recognizers.items():
            runs = {
                "offline": timed(lambda r=recognizer, x=samples: offline_pass(r, x)),
                "live": timed(lambda r=recognizer, x=samples: run_steps(r, "cached", x, SETTING)),
            }
            for kind, (run, cpu, _) in runs.items():
                cost[form] += cpu
                best = run.rows.argmax(1)
                same[form, kind] += int((best == reference.setdefault(kind, best)).sum())
                texts[form, kind].append(greedy_text(recognizer, run.rows))
        frames += len(reference["offline"])
    for recognizer in recognizers.values():
        recognizer.close()
    for (form, kind), transcripts in texts.items():
        equal = sum(a == b for a, b in zip(transcripts, texts["float32", kind], strict=True))
        print(
            f"digits model, {form}, {kind}: {equal} of {len(references)} texts and "
            f"{100 * same[form, kind] / frames:.2f} % of frames as float32, "
            f"WER {100 * jiwer.wer(references, transcripts):.2f} %"
        )
    print("digits model, passes and steps: " + ", ".join(f"{form} {taken:.1f} s" for form, taken in cost.items()))


def main() -> None:
    torch.set_num_threads(1)
    words()
    speed(int(sys.argv[1]) if len(sys.argv) > 1 else 3)


if __name__ == "__main__":
    main()
