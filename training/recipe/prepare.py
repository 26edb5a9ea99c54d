"""Decode the speech once: Ogg/Opus shards -> one file of 16-bit samples and one table per source, ready to map.

Every source is a folder of shards with a `train.tsv` (shard, start_sample, num_samples, corpus, speaker, text): the
real speech, and the output of `synthesize.py` and `kokoro.py`. The split into training and validation happens here.
"""

from __future__ import annotations

import csv
import os
import random
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .settings import RATE, Work

SPLIT_SEED = 1
# Held-out speakers if a corpus has enough of them; if not, held-out texts or recordings.
VALIDATION_SPEAKERS = {"librispeech": 16, "an4": 7, "speechocean762": 12}
VALIDATION_UTTERANCES = {
    "librispeech": 24,
    "an4": 80,
    "speechocean762": 80,
    "kathleen": 60,
    "storybooks": 20,
    "kokoro": 20,
    "wakewords": 18,
}
VALIDATION_TEXTS = {"kathleen": 45, "storybooks": 25}
VALIDATION_DIGITS = 3  # recordings of every digit of every speaker
VALIDATION_NOISE = 3  # recordings of each class, with all clips cut out of them
VALIDATION_SYNTHETIC = 40
RETOLD = ("kokoro", "storybooks")  # may repeat held-out words; such utterances are not used
HELD_VOICES = ("am_michael", "bf_emma")  # of Kokoro, with every blend of them
RUN = 6  # words in a row that no text may have in common with a held-out one
PHRASE = "phrase"  # `split` of a piece of a training utterance


@dataclass(frozen=True)
class Utterance:
    """A piece of a source's sample file."""

    source: str  # "real", "synthetic" or "noise"; before it is decoded, the file it lies in
    start: int  # sample in the source's file
    samples: int
    corpus: str
    speaker: str  # of noise: class and number of the recording that the clip was cut out of
    split: str  # "train", "validation", `PHRASE` or "unused": of a held-out speaker, but more than validation needs
    text: str


def prepare(work: Work) -> None:
    """Decode all sources that are new or changed."""
    work.audio.mkdir(parents=True, exist_ok=True)
    decode_shards(work.speech / "train", work.audio, "real", first_of_each=work.scrap)
    decode_noise(work.speech, work.audio)
    for name, folder in (("synthetic", work.synthetic), ("kokoro", work.kokoro)):
        if (folder / "train.tsv").exists():
            decode_shards(folder, work.audio, name)


def decode_shards(folder: Path, out: Path, name: str, first_of_each: bool = False) -> None:
    """Shards of `folder` -> out/name.i16 and out/name.tsv. The table is written last: with it, the source is complete.

    `first_of_each` takes one shard of each corpus.
    """
    done, source = out / f"{name}.tsv", folder / "train.tsv"
    if done.exists() and done.stat().st_mtime > source.stat().st_mtime:
        return  # newer than its source: decode again only when speech was added
    shards = defaultdict(list)
    for u in speech_in(folder):
        if not first_of_each or "-000." in u.source:
            shards[u.source].append(u)
    utterances, position = [], 0
    part = out / f"{name}.part"  # a training process may have the old file mapped
    with open(part, "wb") as file:
        for shard, members in tqdm(shards.items(), desc=f"decoding {name}", unit="shard"):
            audio = _read(Path(shard))
            for u in members:
                count = min(u.samples, len(audio) - u.start)
                utterances.append(replace(u, source=name, start=position + u.start, samples=count))
            audio.tofile(file)
            position += len(audio)
    os.replace(part, out / f"{name}.i16")
    write_table(done, split(utterances))


def decode_noise(speech: Path, out: Path) -> None:
    """Noise clips -> out/noise.i16 and out/noise.tsv, with empty texts."""
    if (out / "noise.tsv").exists():
        return
    utterances, position = [], 0
    with open(out / "noise.i16", "wb") as file:
        for u in tqdm(noise_in(speech), desc="decoding noise", unit="clip"):
            audio = _read(Path(u.source))
            audio.tofile(file)
            utterances.append(replace(u, source="noise", start=position, samples=len(audio)))
            position += len(audio)
    write_table(out / "noise.tsv", split(utterances))


def speech_in(folder: Path) -> list[Utterance]:
    """The utterances in the table of a folder of shards, not yet decoded or split."""
    return [
        Utterance(
            str(folder / row["shard"]),
            int(row["start_sample"]),
            int(row["num_samples"]),
            row["corpus"],
            row["speaker"],
            "train",
            " ".join(row["text"].split()),
        )
        for row in read_table(folder / "train.tsv")
    ]


def noise_in(speech: Path) -> list[Utterance]:
    """The noise clips for training, not yet decoded nor split, without cuts of recordings that test clips are cut from.

    ESC-10 names its files by class, fold, recording and cut. Only these names are read from the test table.
    """
    tested = {_recording(row["file"]) for row in read_table(speech / "test" / "test.tsv") if "noise/" in row["file"]}
    return [
        Utterance(
            str(speech / "noise" / row["file"]),
            0,
            round(float(row["seconds"]) * RATE),
            "noise",
            f"{row['class']}-{_recording(row['file'])}",
            "train",
            "",
        )
        for row in read_table(speech / "noise" / "noise.tsv")
        if _recording(row["file"]) not in tested
    ]


def _recording(file: str) -> str:
    return file.split("-")[2]


def split(utterances: list[Utterance]) -> list[Utterance]:
    """Mark the validation utterances of each corpus. Other utterances of a held-out speaker or text are "unused"."""
    groups = defaultdict(list)
    for utterance in utterances:
        groups[utterance.corpus].append(utterance)
    marked = []
    for corpus, members in groups.items():
        draw = random.Random(f"{SPLIT_SEED} {corpus}")
        if corpus in VALIDATION_SPEAKERS:
            names = sorted({u.speaker for u in members})
            held = set(draw.sample(names, min(len(names), VALIDATION_SPEAKERS[corpus])))
            pool = [u for u in members if u.speaker in held]
        elif corpus in VALIDATION_TEXTS:
            texts = set(draw.sample(sorted({u.text for u in members}), VALIDATION_TEXTS[corpus]))
            pool = [u for u in members if u.text in texts]
        elif corpus == "fsdd":
            words = defaultdict(list)
            for u in members:
                words[u.speaker, u.text].append(u)
            pool = [u for same in words.values() for u in draw.sample(same, min(len(same), VALIDATION_DIGITS))]
        elif corpus == "noise":
            recordings = defaultdict(set)
            for u in members:
                recordings[u.speaker.split("-")[0]].add(u.speaker)
            held = {r for of in recordings.values() for r in draw.sample(sorted(of), min(len(of), VALIDATION_NOISE))}
            pool = [u for u in members if u.speaker in held]
        elif corpus == "kokoro":
            pool = [u for u in members if any(voice in u.speaker for voice in HELD_VOICES)]
        elif corpus.startswith("tts-"):
            pool = draw.sample(members, min(len(members) // 20, VALIDATION_SYNTHETIC))
        else:
            pool = draw.sample(members, min(len(members) // 20, VALIDATION_UTTERANCES.get(corpus, 0)))
        chosen = set(draw.sample(pool, min(len(pool), VALIDATION_UTTERANCES.get(corpus, len(pool)))))
        apart = set(pool)
        for u in members:
            fate = "validation" if u in chosen else "unused" if u in apart else "train"
            marked.append(replace(u, split=fate))
    known = {run for u in marked if u.split != "train" for run in runs(u.text)}
    for at, u in enumerate(marked):
        if u.corpus in RETOLD and u.split == "train" and not known.isdisjoint(runs(u.text)):
            marked[at] = replace(u, split="unused")
    return marked


def runs(text: str) -> zip:
    """Every `RUN` words in a row, as tuples."""
    words = text.split()
    return zip(*(words[i:] for i in range(RUN)), strict=False)


def load(work: Work, source: str) -> tuple[np.ndarray, list[Utterance]]:
    """Return the mapped int16 samples of a source and its table; both empty if the source was not prepared."""
    table = work.audio / f"{source}.tsv"
    if not table.exists():
        return np.empty(0, np.int16), []
    return np.memmap(work.audio / f"{source}.i16", np.int16, mode="r"), read_utterances(table)


def read_utterances(table: Path) -> list[Utterance]:
    """Read a file of `write_table`; an empty list if it does not exist."""
    return [
        Utterance(r["source"], int(r["start"]), int(r["samples"]), r["corpus"], r["speaker"], r["split"], r["text"])
        for r in (read_table(table) if table.exists() else ())
    ]


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a tab-separated table with a header line and no quoting."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_table(path: Path, utterances: list[Utterance]) -> None:
    """Write one row per utterance. The file is replaced in one step."""
    names = list(Utterance.__dataclass_fields__)
    lines = ["\t".join(names)] + ["\t".join(str(getattr(u, n)) for n in names) for u in utterances]
    part = path.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(part, path)


def _read(path: Path) -> np.ndarray:
    import soundfile  # here, because training on prepared audio needs only torch and numpy

    audio, rate = soundfile.read(path, dtype="int16")
    if rate != RATE or audio.ndim != 1:
        raise ValueError(f"{path}: expected mono audio at {RATE} Hz, found {audio.ndim} axes at {rate} Hz")
    return audio
