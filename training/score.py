"""Greedy word error rates of a network on the validation cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from .data import Speech
from .network import Network, Stream, frames
from .plan import digit_strings
from .settings import RATE, SCALE
from .text import greedy, word_errors

LIVE = Stream(hop=24, lookahead=24, left=200)  # the live recognizer's own: 480 ms steps that see 480 ms ahead


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


@torch.inference_mode()
def transcribe(
    network: Network,
    clips: list[Clip],
    device: torch.device,
    stream: Stream | None = None,
    scale: float = SCALE,
    seconds: float = 60.0,
) -> list[str]:
    """Greedy texts, in the order of `clips`; batches of at most `seconds` of padded audio.

    Samples are multiplied by `scale`, which is 1 for an exported checkpoint.
    """
    network.eval()
    texts = [""] * len(clips)
    for batch in _batches(clips, seconds):
        lengths = torch.tensor([len(clips[i].samples) for i in batch])
        samples = torch.zeros(len(batch), int(lengths.max()))
        for row, i in zip(samples, batch, strict=True):
            row[: len(clips[i].samples)] = torch.from_numpy(clips[i].samples) * scale
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            labels = network(samples.to(device), lengths.to(device), stream)[0].argmax(-1).cpu().numpy()
        for i, row, count in zip(batch, labels, frames(lengths).tolist(), strict=True):
            texts[i] = greedy(row[:count])
    return texts


def rates(clips: list[Clip], texts: list[str]) -> dict[str, float]:
    """Word error rate of each corpus, in percent; for "noise" the number of clips with any word."""
    wrong, words = defaultdict(int), defaultdict(int)
    for clip, text in zip(clips, texts, strict=True):
        wrong[clip.corpus] += word_errors(clip.text, text) if clip.text else bool(text)
        words[clip.corpus] += len(clip.text.split())
    return {c: round(100 * wrong[c] / words[c], 2) if words[c] else wrong[c] for c in sorted(wrong)}


def _batches(clips: list[Clip], seconds: float) -> Iterable[list[int]]:
    batch: list[int] = []
    for i in sorted(range(len(clips)), key=lambda i: len(clips[i].samples)):
        if batch and (len(batch) + 1) * len(clips[i].samples) > seconds * RATE:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
