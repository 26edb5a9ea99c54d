"""Greedy word error rates of a network on the validation cut."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from .. import score
from ..network import Network, StepLengths
from ..score import word_errors
from .data import Speech
from .plan import digit_strings
from .settings import RATE, SCALE
from .text import greedy


@dataclass(frozen=True)
class Clip:
    corpus: str
    samples: np.ndarray  # (samples,) float32 in [-1, 1), as recorded
    text: str
    speaker: str = "-"


def validation(speech: Speech) -> list[Clip]:
    """Held-out utterances of the training side; single digits become strings, as the product meets them."""
    held = [u for u in speech.utterances if u.split == "validation"]
    clips = [
        Clip("tts" if u.corpus.startswith("tts-") else u.corpus, speech.audio(u), u.text, u.speaker)
        for u in held
        if u.corpus != "fsdd"
    ]
    draw = np.random.default_rng(0)
    digits = [u for u in held if u.corpus == "fsdd"]
    for parts in digit_strings(digits, 120.0, draw) if digits else []:
        gaps = [int(RATE * draw.uniform(0.1, 0.6)) for _ in parts]
        audio = np.concatenate([np.pad(speech.audio(u), (0, gap)) for u, gap in zip(parts, gaps, strict=True)])
        audio = audio + 1e-3 * draw.standard_normal(len(audio), np.float32)
        clips.append(Clip("digits", audio, " ".join(u.text for u in parts), parts[0].speaker))
    return clips


def transcribe(
    network: Network,
    clips: list[Clip],
    device: torch.device,
    stream: StepLengths | None = None,
    scale: float = SCALE,
) -> list[str]:
    """Greedy texts, in the order of `clips`. Samples are multiplied by `scale`, which is 1 for an exported
    checkpoint."""
    scaled = [clip.samples * np.float32(scale) for clip in clips]
    return score.transcribe(network, scaled, lambda logits: greedy(logits.argmax(-1)), device, stream)


def rates(clips: list[Clip], texts: list[str]) -> dict[str, float]:
    """Word error rate of each corpus, in percent; for "noise" the number of clips with any word."""
    wrong, words = defaultdict(int), defaultdict(int)
    for clip, text in zip(clips, texts, strict=True):
        wrong[clip.corpus] += word_errors(clip.text, text) if clip.text else bool(text)
        words[clip.corpus] += len(clip.text.split())
    return {c: round(100 * wrong[c] / words[c], 2) if words[c] else wrong[c] for c in sorted(wrong)}
