"""Figures of an exported checkpoint on the public test clips: never used to choose anything.

Offline is transformers' own forward in single precision with the checkpoint's own feature extractor and tokenizer; live
is the cached mode's arithmetic (`network.Network.streamed`) in bfloat16. Both greedy, without any voice gate. How the
model takes other levels is measured on the validation cut.
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

from .data import Speech
from .network import Network
from .prepare import read_table
from .score import LIVE, Clip, rates, transcribe, validation
from .settings import RATE, Work

LEVELS = (0.1, 0.3, 1.0, 3.0)
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
    live = transcribe(Network(model), clips, torch.device("cpu"), LIVE, scale=1.0)
    result = {
        "offline": rates(clips, texts),
        "live": rates(clips, live),
        "speakers": by_speaker(clips, texts),
        "real_time_factor": round(spent / seconds, 4),
        "threads": torch.get_num_threads(),
        "examples": [[c.corpus, c.text, t] for c, t in zip(clips[::20], texts[::20], strict=True)],
    }
    return result


@torch.inference_mode()
def by_level(work: Work, checkpoint: Path, limit: int | None = None) -> dict[str, dict[str, float]]:
    """Offline WER on the validation cut with all samples multiplied, and clipped as a recorder would."""
    network = Network(Wav2Vec2ForCTC.from_pretrained(checkpoint, dtype=torch.float32))
    table = {}
    for level in LEVELS:
        clips = [
            Clip(c.corpus, np.clip(c.samples * np.float32(level), -1, 1), c.text)
            for c in validation(Speech(work))[:: 20 if limit else 1]
        ]
        table[str(level)] = rates(clips, transcribe(network, clips, torch.device("cpu"), scale=1.0))
    return table


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
    lines += ["", f"RTF {result['real_time_factor']} with {result['threads']} threads", ""]
    corpora = list(next(iter(result["levels"].values())))
    lines += [f"| level, validation | {' | '.join(corpora)} |", "|---" * (len(corpora) + 1) + "|"]
    lines += [f"| x {level} | {' | '.join(str(row[c]) for c in corpora)} |" for level, row in result["levels"].items()]
    return "\n".join(lines)


def save(result: dict, path: Path) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
