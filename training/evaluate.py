"""Figures of an exported checkpoint on the public test clips: never used to choose anything.

Offline is transformers' own forward in single precision with the checkpoint's own feature extractor and tokenizer; live
is the cached mode's arithmetic (`network.Network.streamed`) in bfloat16. Both greedy, without any voice gate.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

from .network import Network
from .prepare import read_table
from .score import LIVE, Clip, rates, transcribe
from .settings import RATE

FOLDERS = ("digits", "an4", "librispeech", "longform", "kathleen", "nonnative", "noise")


def english_clips(speech: Path, folders: tuple[str, ...] = FOLDERS, limit: int | None = None) -> list[Clip]:
    """Clips of the English test folders, `corpus` being the folder; the long recording is cut where its table says."""
    clips: dict[str, list[Clip]] = defaultdict(list)
    for row in read_table(speech / "test" / "test.tsv"):
        folder = row["file"].split("/")[0]
        if folder not in folders:
            continue
        audio = soundfile.read(speech / "test" / row["file"], dtype="float32")[0]
        if folder == "longform":
            for part in read_table(next((speech / "test" / "longform").glob("*.tsv"))):
                start, end = (round(float(part[name]) * RATE) for name in ("start", "end"))
                clips[folder].append(Clip(folder, audio[start:end], part["text"], row["speaker"]))
        else:
            clips[folder].append(Clip(folder, audio, row["text"], row["speaker"]))
    return [clip for folder in folders for clip in clips[folder][:limit]]


@torch.inference_mode()
def evaluate(speech: Path, checkpoint: Path, limit: int | None = None) -> dict:
    """Word error rates offline and live per test folder and speaker, and the real-time factor of an offline pass."""
    clips = english_clips(speech, limit=limit)
    processor = Wav2Vec2Processor.from_pretrained(checkpoint)
    model = Wav2Vec2ForCTC.from_pretrained(checkpoint, dtype=torch.float32).eval()
    texts, seconds, spent = [], 0.0, 0.0
    for clip in tqdm(clips, "offline", unit="clip"):
        values = processor(clip.samples, sampling_rate=RATE, return_tensors="pt").input_values
        began = time.perf_counter()
        labels = model(values).logits[0].argmax(-1)
        spent += time.perf_counter() - began
        seconds += len(clip.samples) / RATE
        texts.append(processor.decode(labels).strip())
    live = transcribe(Network(model), clips, torch.device("cpu"), LIVE)
    result = {
        "offline": rates(clips, texts),
        "live": rates(clips, live),
        "speakers": by_speaker(clips, texts),
        "real_time_factor": round(spent / seconds, 4),
        "threads": torch.get_num_threads(),
        "examples": [[c.corpus, c.text, t] for c, t in zip(clips[::20], texts[::20], strict=True)],
    }
    return result


def by_speaker(clips: list[Clip], texts: list[str]) -> dict[str, dict[str, float]]:
    """Offline WER of each speaker of each folder."""
    named = [Clip(f"{c.corpus}/{c.speaker}", np.empty(0), c.text) for c in clips if c.corpus != "noise"]
    heard = [t for c, t in zip(clips, texts, strict=True) if c.corpus != "noise"]
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for name, rate in rates(named, heard).items():
        folder, speaker = name.split("/")
        table[folder][speaker] = rate
    return dict(table)


def report(result: dict) -> str:
    """The figures as a Markdown table."""
    lines = ["| test set | offline WER % | live WER % |", "|---|---|---|"]
    lines += [f"| {c} | {rate} | {result['live'][c]} |" for c, rate in result["offline"].items() if c != "noise"]
    if "noise" in result["offline"]:
        lines.append(f"| noise clips with any word | {result['offline']['noise']} | {result['live']['noise']} |")
    return "\n".join([*lines, "", f"RTF {result['real_time_factor']} with {result['threads']} threads"])


def save(result: dict, path: Path) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
