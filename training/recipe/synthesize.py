"""Synthetic speech for lexical coverage: flite, espeak-ng and festival read sentences of the language-model text.

The result looks like the real speech (Ogg/Opus shards and `train.tsv`), so `prepare.py` takes both. A shard depends
on the seed, its number, the text, the installed voices and, below 600 s, the requested hours. A restart keeps finished
shards, so other voices or another text need an empty folder.
"""

from __future__ import annotations

import concurrent.futures
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from .books import sentences
from .settings import RATE, Work

SEED = 11
SHARD_SECONDS = 600  # about
SHARDS = 72  # the sentences are divided among so many; fewer hours write only the first ones
WORDS = (2, 16)  # shorter sentences are left out, longer ones cut
TIMEOUT = 60  # seconds that a voice may take for a sentence
COLUMNS = ("shard", "start_sample", "num_samples", "corpus", "speaker", "text")


@dataclass(frozen=True)
class Voice:
    """A synthesiser with one of its voices, and its share of the sentences."""

    program: str
    name: str
    share: float

    @property
    def corpus(self) -> str:
        return f"tts-{self.program}"


# Flite's clustergen voices are the most natural, so they read most; espeak-ng adds variety of speakers.
FLITE = [Voice("flite", name, share) for name, share in (("slt", 3), ("rms", 3), ("awb", 3), ("kal16", 1))]
ESPEAK = [
    Voice("espeak-ng", f"{accent}+{kind}", 0.12)
    for accent in ("en-us", "en-gb", "en-gb-scotland", "en-029", "en-gb-x-rp")
    for kind in ("m1", "m3", "m7", "f2", "f3", "f5")
]
FESTIVAL = [Voice("festival", name, 1.5) for name in ("ked_diphone", "cmu_us_slt_arctic_hts")]
PROGRAMS = {"flite": "flite", "espeak-ng": "espeak-ng", "festival": "text2wave"}


def synthesize(work: Work, hours: float) -> None:
    """Write about `hours` of speech, at most 12, to work.synthetic. Missing voices are left out and printed."""
    work.synthetic.mkdir(parents=True, exist_ok=True)
    voices = [v for v in FLITE + ESPEAK + FESTIVAL if _works(v)]
    missing = sorted({v.name for v in FLITE + ESPEAK + FESTIVAL} - {v.name for v in voices})
    if missing:
        print("synthetic voices not installed:", ", ".join(missing))
    if not voices:
        return
    texts = excerpts(sentences(work.speech))
    numbers = range(min(SHARDS, max(1, round(hours * 3600 / SHARD_SECONDS))))
    seconds = min(SHARD_SECONDS, hours * 3600)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(shard, work.synthetic, n, texts[n::SHARDS], voices, seconds) for n in numbers]
        for job in tqdm(concurrent.futures.as_completed(jobs), "synthesising", len(jobs), unit="shard"):
            job.result()
    lines = ["\t".join(COLUMNS)]
    for number in numbers:
        lines += (work.synthetic / f"{number:03}.tsv").read_text(encoding="utf-8").splitlines()
    part = work.synthetic / "train.part"
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(part, work.synthetic / "train.tsv")


def excerpts(sentences: list[str]) -> list[str]:
    """The sentences in random order; long ones are cut at a random place, so that any word can come first."""
    draw = random.Random(SEED)
    lines = [sentence.split() for sentence in sentences]
    draw.shuffle(lines)
    chosen = []
    for words in lines:
        count = draw.randint(*WORDS)
        first = draw.randint(0, max(0, len(words) - count))
        if len(words) >= WORDS[0]:
            chosen.append(" ".join(words[first : first + count]))
    return chosen


def shard(folder: Path, number: int, texts: list[str], voices: list[Voice], seconds: float) -> None:
    """Write one shard of about `seconds`, unless it is there."""
    if not (folder / f"{number:03}.tsv").exists():
        write_shard(folder, number, utterances(number, texts, voices, seconds))


def utterances(
    number: int, texts: list[str], voices: list[Voice], seconds: float
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Corpus, voice, text and samples of each sentence of a shard."""
    draw, total = random.Random(f"{SEED} {number}"), 0
    with tempfile.TemporaryDirectory() as scratch:
        for text in texts:
            if total >= seconds * RATE:
                return
            voice = draw.choices(voices, [v.share for v in voices])[0]
            audio = speak(voice, text, Path(scratch), draw)
            if RATE // 4 <= len(audio) <= 16 * RATE:
                total += len(audio)
                yield voice.corpus, voice.name, text, audio


def write_shard(folder: Path, number: int, read: Iterable[tuple[str, str, str, np.ndarray]]) -> None:
    """Write utterances (corpus, speaker, text, samples) end to end to one Opus file and, last, its table."""
    table, name = folder / f"{number:03}.tsv", f"{number:03}.opus"
    pieces, rows, position = [], [], 0
    for corpus, speaker, text, audio in read:
        rows.append("\t".join((name, str(position), str(len(audio)), corpus, speaker, text)))
        pieces.append(audio)
        position += len(audio)
    part = folder / f"{number:03}.part"
    with soundfile.SoundFile(
        part, "w", RATE, 1, format="OGG", subtype="OPUS", compression_level=0.9
    ) as file:  # about 24 kbit/s
        for piece in pieces:
            file.write(piece)
    os.replace(part, folder / name)
    part.write_text("\n".join(rows) + "\n", encoding="utf-8")
    os.replace(part, table)


def speak(voice: Voice, text: str, scratch: Path, draw: random.Random) -> np.ndarray:
    """One sentence with random speed and pitch: (samples,) float32 at 16 kHz, ends trimmed; empty if the program
    fails."""
    wav, written = scratch / "out.wav", scratch / "in.txt"
    written.write_text(_readable(text) + "\n")
    slow, pitch = draw.uniform(0.8, 1.25), draw.uniform(0.85, 1.2)
    if voice.program == "flite":
        command = ["flite", "-voice", voice.name, "--setf", f"duration_stretch={slow:.2f}"]
        if voice.name == "kal16":
            command += ["--setf", f"int_f0_target_mean={105 * pitch:.0f}"]
        command += ["-f", str(written), "-o", str(wav)]
    elif voice.program == "espeak-ng":
        rate, tone = f"{165 / slow:.0f}", f"{50 * pitch:.0f}"
        command = ["espeak-ng", "-v", voice.name, "-s", rate, "-p", tone, "-f", str(written), "-w", str(wav)]
    else:
        scheme = f"(begin (voice_{voice.name}) (Parameter.set 'Duration_Stretch {slow:.2f}))"
        command = ["text2wave", "-eval", scheme, str(written), "-o", str(wav)]
    wav.unlink(missing_ok=True)
    try:
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        print(f"left out: {voice.program} {voice.name} took more than {TIMEOUT} s for {text!r}")
        return np.zeros(0, np.float32)
    if not wav.exists() or wav.stat().st_size < 1000:
        return np.zeros(0, np.float32)
    audio, rate = soundfile.read(wav, dtype="float32")
    return trimmed(soxr.resample(audio, rate, RATE, "MQ").astype(np.float32))


def trimmed(audio: np.ndarray) -> np.ndarray:
    """Cut the silence before and after to 50 ms."""
    loud = np.flatnonzero(np.abs(audio) > 0.01 * np.abs(audio).max()) if audio.any() else []
    if not len(loud):
        return np.zeros(0, np.float32)
    return audio[max(0, loud[0] - RATE // 20) : loud[-1] + RATE // 20]


def _readable(text: str) -> str:
    """Lower case, so that no word is spelled out as an abbreviation; "I" stays a capital."""
    return text.lower().replace(" i ", " I ").capitalize()


def _works(voice: Voice) -> bool:
    if not shutil.which(PROGRAMS[voice.program]):
        return False
    with tempfile.TemporaryDirectory() as scratch:
        return len(speak(voice, "HELLO THERE", Path(scratch), random.Random(0))) > 0
