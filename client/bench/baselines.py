"""The baselines of `bench compare`: this project's ways to run a checkpoint, and ways that are common elsewhere.

Each takes the 16 kHz samples of one utterance, (n,), and returns its text, including normalization and decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import transformers
from numpy.typing import NDArray

from ...streaming.frames import FIELD, SAMPLE_RATE, STRIDE, ms
from ...streaming.model.info import ModelInfo
from ...streaming.model.source import BUNDLED
from ...streaming.recognizer import Recognizer
from .steps import LiveMode, StepSetting, encode, greedy_text, offline_pass, run_steps

Float32 = NDArray[np.float32]
_transformers: Any = transformers  # its decorators and overloads hide the types

LOOP_WINDOW, LOOP_HOP = ms(5_000), ms(250)  # samples: the last 5 s, every 250 ms


class Baseline(NamedTuple):
    """Another way to run the checkpoint."""

    name: str
    structure: str  # the audio that a word needs before it is shown, on any machine
    recognize: Callable[[Float32], str]


def baselines(
    recognizer: Recognizer, setting: StepSetting, pipe: Any, chunk: tuple[float, float, float]
) -> list[Baseline]:
    """The baselines that the checkpoint allows, cached mode first. `chunk` is the pipeline's chunk and its left and
    right strides, in seconds."""
    length, left, right = chunk

    def live(mode: LiveMode, samples: Float32) -> str:
        return greedy_text(recognizer, run_steps(recognizer, mode, samples, setting).rows)

    def offline(samples: Float32) -> str:
        return greedy_text(recognizer, offline_pass(recognizer, samples).rows)

    def cached_and_offline(samples: Float32) -> str:
        live("cached", samples)
        return offline(samples)

    def demo(samples: Float32) -> str:
        return greedy_text(recognizer, demo_loop(recognizer, samples))

    def piped(samples: Float32) -> str:
        audio = {"raw": samples, "sampling_rate": SAMPLE_RATE}
        return pipe(audio, chunk_length_s=length, stride_length_s=(left, right))["text"]

    hop, lookahead, _ = setting
    wait = f"shown within {hop} ms, committed after {lookahead} to {lookahead + hop} ms"
    cached = [
        Baseline("cached", wait, partial(live, "cached")),
        Baseline("cached, and the second pass", f"{wait}; then full context", cached_and_offline),
    ]
    return [
        *(cached if "cached" in recognizer.info.modes else ()),
        Baseline(f"window ({sum(setting) / 1000:.2g} s every {hop} ms)", wait, partial(live, "window")),
        Baseline("loop of demos (5 s every 250 ms)", "shown within 250 ms, settled after 2.5 s", demo),
        Baseline(
            f"transformers pipeline ({length:g} s, strides {left:g} and {right:g} s)",
            f"not live: {right:g} to {length - left:g} s, chunk by chunk",
            piped,
        ),
        Baseline("offline", "not live: all of it", offline),
    ]


def demo_loop(recognizer: Recognizer, samples: Float32) -> Float32:
    """The simple loop of many demos: every 250 ms it normalizes and encodes the last 5 s.

    Demos show the text of each window and drop the previous one. To score one text, each window contributes the frames
    around its middle, where it has most context on both sides: the best result that this loop can reach. The last
    window contributes all remaining frames.
    """
    rows: list[Float32] = []
    taken = 0  # samples whose frames are in `rows`
    ends = [*range(LOOP_HOP, len(samples), LOOP_HOP), len(samples)]
    for end in ends:
        start = max(0, end - LOOP_WINDOW)
        window = samples[start:end]
        if len(window) < FIELD:
            continue
        answer = encode(recognizer, recognizer.encoder.normalize(window))
        until = len(samples) if end == len(samples) else end - LOOP_WINDOW // 2
        at = start + STRIDE * np.arange(len(answer))
        chosen = (at >= taken) & (at < until)
        rows.append(answer[chosen])
        taken = max(taken, until)
    return np.concatenate(rows)


def pipeline(model: str, info: ModelInfo, revision: str | None) -> Any:
    """The transformers pipeline for the loaded checkpoint, with its own unmodified model."""
    path = str(BUNDLED) if model == "bundled" else model
    options: dict[str, Any] = {"local_files_only": True, "revision": revision}
    by_language = {"target_lang": info.language} if info.language else {}
    network = _transformers.Wav2Vec2ForCTC.from_pretrained(path, **options, use_safetensors=True, dtype=info.dtype)
    if info.language:
        network.load_adapter(info.language, **options, use_safetensors=True)
    return _transformers.pipeline(
        "automatic-speech-recognition",
        model=network.eval(),
        tokenizer=_transformers.Wav2Vec2CTCTokenizer.from_pretrained(path, **options, **by_language),
        feature_extractor=_transformers.Wav2Vec2FeatureExtractor.from_pretrained(path, **options),
        device=info.device,
    )
