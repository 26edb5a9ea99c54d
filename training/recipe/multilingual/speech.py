"""Reads the phrases aloud with Kokoro-82M and espeak-ng: FLAC files and a table for each language and split.

Kokoro has voices of Spanish, French, Italian and Portuguese speakers, none of a German. Voices of other languages read
with the phonemes of a language too, alone and blended, so that a language is not known by its speakers. The voices of
`HELD_VOICES` read all languages, and only for the tests. espeak-ng, which costs almost nothing, reads more texts for
training.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import soundfile
from tqdm import tqdm

from ..kokoro import LEVEL, SPEED, Reader
from ..prepare import HELD_VOICES
from ..settings import RATE
from ..synthesize import Voice, speak
from .phrases import LANGUAGES, Phrases, Split

SEED: Final = 14
PHONEMES: Final = {"eng": "en-us", "deu": "de", "spa": "es", "fra": "fr-fr", "ita": "it", "por": "pt-br"}
NATIVE: Final = {"eng": "ab", "deu": "", "spa": "e", "fra": "f", "ita": "i", "por": "p"}  # first letters of voices
HELD_NATIVE: Final = ("em_alex", "im_nicola", "pm_alex")
UNUSED: Final = "hjz"  # first letters: Hindi, Japanese and Mandarin voices
VARIANTS: Final = ("m1", "m3", "m7", "f2", "f3", "f5")  # of espeak-ng
DEV, TEST = 8, 14  # recordings of each language


class Reading(NamedTuple):
    """One recording to make. `speaker` is a voice of Kokoro, a blend (one+other:share), or espeak-ng's."""

    language: str
    split: Split
    name: str
    text: str
    speaker: str
    speed: float
    level: float  # RMS in dB below full scale
    seed: str

    def path(self, folder: Path) -> Path:
        return folder / self.language / self.split / f"{self.name}.flac"


def read_phrases(folder: Path, source: Path, kokoro: int, espeak: int) -> None:
    """Make recordings for training, development and tests in each language.

    A recording depends on its language, split and number alone; those that exist are kept. The tables list what
    exists. `source` holds `model.onnx` and `voices.npz`.
    """
    reader = Reader(source, lambda voice: voice[0] not in UNUSED)
    readings = plan(list(reader.voices), kokoro, espeak)
    missing = [reading for reading in readings if not reading.path(folder).exists()]
    for count, reading in enumerate(tqdm(missing, "reading aloud", unit="sentence", mininterval=10)):
        write(reader, reading, reading.path(folder))
        if count % 50 == 0:
            write_tables(folder, readings)
    write_tables(folder, readings)


def plan(voices: Collection[str], kokoro: int, espeak: int) -> list[Reading]:
    """All recordings, those for development and tests first; languages take turns, so that an unfinished run has some
    of each."""
    columns: list[list[Reading]] = []
    for language in LANGUAGES:
        counts: dict[Split, int] = {"train": kokoro, "dev": DEV, "test": TEST}
        columns += [list(_readings(language, split, count, voices)) for split, count in counts.items()]
        columns.append(list(_readings(language, "train", espeak, ())))
    spread = [(each.split == "train", at / len(column), each) for column in columns for at, each in enumerate(column)]
    return [each for *_, each in sorted(spread)]


def _readings(language: str, split: Split, count: int, voices: Collection[str]) -> Iterator[Reading]:
    """With `voices` of Kokoro, or with espeak-ng if there are none."""
    kind = "" if voices else "espeak "
    texts = Phrases(language).draw(split, random.Random(f"{SEED} {kind}{language} {split}"))
    for number, text in zip(range(count), texts, strict=False):
        seed = f"{SEED} {kind}{language} {split} {number}"
        draw = random.Random(seed)
        speaker = voice(voices, language, split, draw) if voices else f"{PHONEMES[language]}+{draw.choice(VARIANTS)}"
        name = f"{kind[:1]}{number:04}"
        yield Reading(language, split, name, text, speaker, draw.uniform(*SPEED), draw.uniform(*LEVEL), seed)


def voice(voices: Collection[str], language: str, split: Split, draw: random.Random) -> str:
    """A speaker: for tests a held-out voice, else half of the time a native one, else any or a blend of both."""
    native = [name for name in voices if name[0] in NATIVE[language]]
    if split == "test":
        return draw.choice([*HELD_VOICES, *[name for name in HELD_NATIVE if name in native] * 2])
    free = [name for name in voices if name not in (*HELD_VOICES, *HELD_NATIVE)]
    native = [name for name in native if name in free] or free
    kind, own, other, weight = draw.random(), draw.choice(native), draw.choice(free), draw.uniform(0.3, 0.8)
    if kind < 0.5 or own == other:
        return own
    return other if kind < 0.7 else f"{own}+{other}:{weight:.2f}"


def write(reader: Reader, reading: Reading, path: Path) -> None:
    """Read a text aloud; nothing is written if there is no audio."""
    if reading.name[0] == "e":
        with tempfile.TemporaryDirectory() as scratch:
            program = Voice("espeak-ng", reading.speaker, 1.0)
            audio = speak(program, reading.text, Path(scratch), random.Random(reading.seed))
    else:
        language = PHONEMES[reading.language]
        audio = reader.read(f"{reading.text.capitalize()}.", _style(reader, reading.speaker), language, reading.speed)
    if not audio.size:
        return
    audio *= np.float32(10 ** (reading.level / 20) / (np.sqrt(np.mean(audio * audio)) + 1e-9))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    soundfile.write(part, np.clip(audio, -1, 1), RATE, format="FLAC", subtype="PCM_16")
    part.rename(path)


def _style(reader: Reader, speaker: str) -> np.ndarray:
    names, _, share = speaker.partition(":")
    own, _, other = names.partition("+")
    if not other:
        return reader.voices[own]
    return float(share) * reader.voices[own] + (1 - float(share)) * reader.voices[other]


def write_tables(folder: Path, readings: list[Reading]) -> None:
    """`LANGUAGE/SPLIT.tsv` with the recordings that exist."""
    rows: dict[Path, list[str]] = {}
    for reading in readings:
        path = reading.path(folder)
        if path.exists():
            lines = rows.setdefault(path.parent.with_suffix(".tsv"), ["file\ttext\tspeaker"])
            lines.append(f"{reading.split}/{path.name}\t{reading.text}\t{reading.speaker}")
    for table, lines in rows.items():
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
