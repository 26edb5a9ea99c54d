"""Live steps beside the passes of other speakers: `python -m tests.figures.measure_interruptions [SECONDS]` (minutes).

Paced utterances of 10 s take live steps, one in every hop, while passes over 10 s of other speakers arrive, with equal
pauses. It prints how long steps and passes wait for their answer: with passes that let steps run between their layers,
and with passes that do not. The packaged model with a pass in every second, and a quarter of XLS-R 300M (6 layers,
random weights) with one in every five seconds; one thread.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import torch
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.frames import STRIDE
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.requests import CachedStep, CacheHandle

from tests.support.cached_reference import windows
from tests.support.checkpoints import XLSR_300M, publish

UTTERANCE_S = 10
AUDIO = np.random.default_rng(1).standard_normal(UTTERANCE_S * 16_000).astype(np.float32)


class Uninterrupted:
    """The same encoder without interruptions."""

    interruptible = False

    def __init__(self, encoder: XlsrEncoder) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def speakers(hop: int, lookahead: int) -> Iterator[tuple[float, CachedStep, np.ndarray]]:
    """The steps of one utterance after another: when the audio is there, from the start of the first."""
    start = 0.0
    while True:
        handle = CacheHandle(200, lookahead)
        for window in windows(len(AUDIO), hop, lookahead, 200):
            at = start + (window.newest * STRIDE + 80) / 16_000
            yield at, CachedStep(handle, window), AUDIO[slice(*window.new_samples)]
        start += UTTERANCE_S


def waits(
    encoder: Any, seconds: float, hop: int, lookahead: int, pass_every_s: float
) -> tuple[list[float], list[float]]:
    """Seconds from request to answer, of steps and of passes."""
    engine, found = Engine(encoder, adaptive=False), ([], [])
    pending: list[Future[Any]] = []
    begun, next_pass = time.monotonic(), 0.0

    def submit(kind: int, samples: np.ndarray, **options: Any) -> None:
        submitted = time.monotonic()
        future = engine.submit(samples, **options)
        future.add_done_callback(lambda _: found[kind].append(time.monotonic() - submitted))
        pending.append(future)

    for at, step, samples in speakers(hop, lookahead):
        if at > seconds:
            break
        time.sleep(max(0.0, begun + at - time.monotonic()))
        if at >= next_pass:
            submit(1, AUDIO, deadline=time.monotonic())
            next_pass += pass_every_s
        submit(0, samples, deadline=time.monotonic() + hop * STRIDE / 16_000, reuse=step)
        if step.window.commit == step.window.newest:
            pending[-1].add_done_callback(lambda _, handle=step.cache: engine.release(handle))
    for future in pending:
        future.result()
    engine.close()
    return found


def main() -> None:
    torch.set_num_threads(1)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder), XLSR_300M | {"num_hidden_layers": 6})
        large = load(ModelOptions(folder, device="cpu", dtype="float32"))
    settings = (("packaged", load(ModelOptions(device="cpu")), 16, 12, 1.0), ("6 layers", large, 24, 12, 5.0))
    for name, encoder, hop, lookahead, pass_every_s in settings:
        for kind, served in (("whole", Uninterrupted(encoder)), ("between layers", encoder)):
            steps, passes = waits(served, seconds, hop, lookahead, pass_every_s)
            p50, p95 = np.percentile(steps, (50, 95))
            longest, late = max(steps), 100 * np.mean(np.array(steps) > hop * STRIDE / 16_000)
            print(
                f"{name}, {kind}: {len(steps)} steps wait {p50:.2f} s (p50), {p95:.2f} (p95), at most {longest:.2f}, "
                f"{late:.0f} % late; {len(passes)} passes wait {np.mean(passes):.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
