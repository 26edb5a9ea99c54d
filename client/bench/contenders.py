"""Ways to recognize a recording with one checkpoint, side by side: this project's, and what is common elsewhere.

Each takes 16 kHz samples of one utterance, (n,), and returns the text; normalization and decoding are part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import transformers
from numpy.typing import NDArray

from ...streaming.audio.normalize import normalize
from ...streaming.frames import FIELD, SAMPLE_RATE, STRIDE, ms
from ...streaming.model.encoder import ModelInfo
from ...streaming.model.load import BUNDLED
from ...streaming.recognizer import Recognizer
from .steps import LiveMode, Setting, encode, stepped, text, whole

Float32 = NDArray[np.float32]
_transformers: Any = transformers  # its decorators and overloads hide the types

LOOP_WINDOW, LOOP_HOP = ms(5_000), ms(250)  # samples: the last 5 s, every 250 ms


class Contender(NamedTuple):
    name: str
    structure: str  # what a word must wait for in audio, whatever the machine
    recognize: Callable[[Float32], str]


def contenders(
    recognizer: Recognizer, setting: Setting, pipe: Any, chunk: tuple[float, float, float]
) -> list[Contender]:
    """Those that the checkpoint allows; cached mode comes first where it does. `chunk` is the pipeline's chunk and its
    strides to the left and the right, in seconds."""
    length, left, right = chunk

    def live(mode: LiveMode, samples: Float32) -> str:
        return text(recognizer, stepped(recognizer, mode, samples, setting).rows)

    def offline(samples: Float32) -> str:
        return text(recognizer, whole(recognizer, samples).rows)

    def cached_and_offline(samples: Float32) -> str:
        live("cached", samples)
        return offline(samples)

    def demo(samples: Float32) -> str:
        return text(recognizer, loop(recognizer, samples))

    def piped(samples: Float32) -> str:
        audio = {"raw": samples, "sampling_rate": SAMPLE_RATE}
        return pipe(audio, chunk_length_s=length, stride_length_s=(left, right))["text"]

    hop, lookahead, _ = setting
    heard = f"shown within {hop} ms, committed after {lookahead} to {lookahead + hop} ms"
    cached = [
        Contender("cached", heard, partial(live, "cached")),
        Contender("cached, and the second pass", f"{heard}; then full context", cached_and_offline),
    ]
    return [
        *(cached if "cached" in recognizer.info.modes else ()),
        Contender(f"window ({sum(setting) / 1000:.2g} s every {hop} ms)", heard, partial(live, "window")),
        Contender("loop of demos (5 s every 250 ms)", "shown within 250 ms, settled after 2.5 s", demo),
        Contender(
            f"transformers pipeline ({length:g} s, strides {left:g} and {right:g} s)",
            f"not live: {right:g} to {length - left:g} s, chunk by chunk",
            piped,
        ),
        Contender("offline", "not live: all of it", offline),
    ]


def loop(recognizer: Recognizer, samples: Float32) -> Float32:
    """The plain loop: every 250 ms the last 5 s are normalized and encoded anew.

    Demos show each window's text and forget the one before. To make one text of them, each window gives the frames
    around its middle, where it hears most on either side: the best that this loop can do. The last window gives all
    that is left.
    """
    rows: list[Float32] = []
    taken = 0  # samples whose frames are there
    ends = [*range(LOOP_HOP, len(samples), LOOP_HOP), len(samples)]
    for end in ends:
        start = max(0, end - LOOP_WINDOW)
        window = samples[start:end]
        if len(window) < FIELD:
            continue
        answer = encode(recognizer, normalize(window) if recognizer.encoder.normalized else window)
        until = len(samples) if end == len(samples) else end - LOOP_WINDOW // 2
        at = start + STRIDE * np.arange(len(answer))
        chosen = (at >= taken) & (at < until)
        rows.append(answer[chosen])
        taken = max(taken, until)
    return np.concatenate(rows)


def pipeline(model: str, info: ModelInfo, revision: str | None) -> Any:
    """transformers' own pipeline for the checkpoint that was just loaded, with a plain model of its own."""
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
