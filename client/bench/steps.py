"""Runs recordings through the engine alone, each as one utterance: no gate, no endpoint, no session.

The live steps are those of a session, with its running normalization; the result is the frames that they commit.
Compared with one pass over the whole recording, they show the loss of accuracy from streaming and the time of each
mode.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...streaming.audio.normalize import RunningNormalizer
from ...streaming.ctc.greedy import decode
from ...streaming.frames import STRIDE, ms
from ...streaming.recognizer import Recognizer
from ...streaming.requests import CachedStep, CacheHandle, Window
from ...streaming.session.planner import WindowPlanner

if TYPE_CHECKING:
    from ...streaming.model.encoder import XlsrEncoder

Float32 = NDArray[np.float32]
LiveMode = Literal["cached", "window"]
T = TypeVar("T")


class StepSetting(NamedTuple):
    """Milliseconds, as in `SessionConfig`."""

    hop: int
    lookahead: int
    left: int

    def __str__(self) -> str:
        return f"{self.hop}, {self.lookahead}, {self.left}"

    def cache_handle(self) -> CacheHandle:
        """A new handle for the steps of one utterance."""
        return CacheHandle(ms(self.left) // STRIDE, ms(self.lookahead) // STRIDE)


class EncoderRun(NamedTuple):
    """The committed frames of one recording, and their cost."""

    rows: Float32  # (frames, vocabulary), each from the step that committed it
    encoded: int  # frames computed by the encoder layers, with repetitions


def run_steps(recognizer: Recognizer, mode: LiveMode, samples: Float32, setting: StepSetting) -> EncoderRun:
    """Run all live steps over 16 kHz samples, (n,), and a last step that commits the rest."""
    windows, rest, audio = plan_steps(samples, setting, recognizer.encoder)
    cache = setting.cache_handle()
    rows: list[Float32] = []
    encoded = 0
    for w in [*windows, rest] if rest else windows:
        if mode == "cached":
            answer = encode(recognizer, audio.read(*w.new_samples), CachedStep(cache, w))
            encoded += w.newest - w.committed
        else:
            answer = encode(recognizer, audio.read(*w.samples))[w.committed - w.first :]
            encoded += w.newest - w.first
        rows.append(answer[: w.commit - w.committed])
    recognizer.engine.release(cache)
    return EncoderRun(np.concatenate(rows), encoded)


def offline_pass(recognizer: Recognizer, samples: Float32) -> EncoderRun:
    """Run one pass over all samples, normalized as by the feature extractor."""
    rows = encode(recognizer, recognizer.encoder.normalize(samples))
    return EncoderRun(rows, len(rows))


def encode(recognizer: Recognizer, samples: Float32, reuse: CachedStep | None = None) -> Float32:
    """Log-probabilities of normalized audio, from the engine."""
    return recognizer.engine.submit(samples, deadline=time.monotonic(), reuse=reuse).result()


def greedy_text(recognizer: Recognizer, rows: Float32) -> str:
    """Decode rows of log-probabilities greedily."""
    vocabulary = recognizer.encoder.vocabulary
    return vocabulary.join(word.text for word in decode(rows, vocabulary))


def timed(run: Callable[[], T]) -> tuple[T, float, float]:
    """The result of a call, its CPU seconds in this process, and its wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = run()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def plan_steps(
    samples: Float32, setting: StepSetting, encoder: XlsrEncoder
) -> tuple[list[Window], Window | None, RunningNormalizer]:
    """The live steps of an utterance, the step that commits the rest, and its normalized audio.

    The first step that uses a sample sets its scale.
    """
    hop, lookahead, left = (ms(x) // STRIDE for x in setting)
    planner = WindowPlanner(hop=hop, lookahead=lookahead, left_context=left)
    audio = RunningNormalizer(enabled=encoder.normalized, epsilon=encoder.epsilon)
    steps: list[Window] = []
    while planner.due <= len(samples):
        audio.extend(samples[audio.length : planner.due])
        steps += planner.plan(audio.length)
    audio.extend(samples[audio.length :])
    return steps, planner.finish(audio.length), audio
