"""Natural synthetic speech: Kokoro-82M reads sentences of both language-model texts.

The weights are those of hexgrad/Kokoro-82M (Apache-2.0). `--kokoro DIR` holds `model.onnx`, the network as kokoro-onnx
runs it, and `voices.npz`, one style array of (510, 256) per voice. Voices read alone and as blends of two,
which sound like other speakers. The result looks like the real speech (Ogg/Opus shards and `train.tsv`).

A shard depends on the seed, its number, the text and the voices. Finished shards are kept on a restart, and
`train.tsv` lists the finished shards at any time, so training can use the first ones while others are made.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soxr
from tqdm import tqdm

from .books import dialogue, sentences
from .prepare import HELD_VOICES
from .settings import RATE, Work
from .synthesize import COLUMNS, trimmed, write_shard

SEED = 12
SHARD_SECONDS = 300  # about
VOICE_RATE = 24_000  # samples per second of Kokoro's output
WORDS = (3, 16)  # of a sentence, least and most
COVER = ((2_000, 5), (5_000, 5), (20_000, 5))  # most frequent words, and how often each is read; in this order
DENSITY = (0.5, 0.35, 0.25, 0.15, 0.0)  # share of a sentence's words that are still needed, falling; at least one
BLENDS = 0.5  # share of the sentences that a blend of two voices reads
SPEED = (0.8, 1.25)
LEVEL = (-26.0, -16.0)  # RMS in dB below full scale


def synthesize(work: Work, source: Path, hours: float) -> None:
    """Write about `hours` of speech to work.kokoro with the network and voices in `source`."""
    work.kokoro.mkdir(parents=True, exist_ok=True)
    texts = plan(sentences(work.speech), dialogue(work.speech))
    count = max(1, round(hours * 3600 / SHARD_SECONDS))
    seconds = min(SHARD_SECONDS, hours * 3600)
    reader = Reader(source, lambda voice: english(voice) and voice not in HELD_VOICES)
    per_shard = SHARD_SECONDS // 2  # no sentence takes less than two seconds on average
    for number in tqdm(range(count), "Kokoro reads", unit="shard", mininterval=30):
        if not (work.kokoro / f"{number:03}.tsv").exists():
            own = texts[number * per_shard : (number + 1) * per_shard]
            write_shard(work.kokoro, number, reader.utterances(number, own, seconds))
        collect(work.kokoro)


def collect(folder: Path) -> None:
    """Write `train.tsv` from the tables of all finished shards."""
    lines = ["\t".join(COLUMNS)]
    for table in sorted(folder.glob("[0-9][0-9][0-9].tsv")):
        lines += table.read_text(encoding="utf-8").splitlines()
    part = folder / "train.part"
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(part, folder / "train.tsv")


def plan(*texts: list[str]) -> list[str]:
    """Excerpts of all texts, ordered so that the first ones read the most frequent words often enough (`COVER`); the
    rest follows in random order."""
    draw = random.Random(SEED)
    lines = [line for text in texts for line in text]
    counts = Counter(word for line in lines for word in line.split())
    frequent = [word for word, _ in counts.most_common(COVER[-1][0])]
    rest = [words for line in lines if len(words := excerpt(line.split(), draw)) >= WORDS[0]]
    draw.shuffle(rest)
    read: Counter[str] = Counter()
    chosen: list[list[str]] = []
    for most, times in COVER:
        needed = {word for word in frequent[:most] if read[word] < times}
        for density in DENSITY:
            left = []
            for words in rest:
                if sum(word in needed for word in words) < max(1, density * len(words)):
                    left.append(words)
                    continue
                chosen.append(words)
                read.update(words)
                needed.difference_update([word for word in words if read[word] >= times])
            rest = left
    return [" ".join(words) for words in chosen + rest]


def excerpt(words: list[str], draw: random.Random) -> list[str]:
    """At most `WORDS[1]` words from a random place, so that any word can come first."""
    if len(words) <= WORDS[1]:
        return words
    count = draw.randint(WORDS[0] + 2, WORDS[1])
    first = draw.randint(0, len(words) - count)
    return words[first : first + count]


class Reader:
    """Kokoro-82M on one thread, with the voices whose names are `wanted`."""

    def __init__(self, source: Path, wanted: Callable[[str], bool]):
        import onnxruntime
        from kokoro_onnx.tokenizer import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        network = str(source / "model.onnx")
        self.session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]  # tokens, style, speed
        self.tokenizer = Tokenizer()
        voices = np.load(source / "voices.npz")
        self.voices = {name: voices[name].astype(np.float32) for name in sorted(voices.files) if wanted(name)}

    def utterances(self, number: int, texts: list[str], seconds: float) -> Iterator[tuple[str, str, str, np.ndarray]]:
        """Corpus, speaker, text and samples of each sentence of a shard of about `seconds`."""
        draw, total = random.Random(f"{SEED} {number}"), 0
        for text in texts:
            if total >= seconds * RATE:
                return
            speaker, style, language = self.voice(draw)
            audio = self.read(readable(text), style, language, draw.uniform(*SPEED))
            if RATE // 4 <= len(audio) <= 16 * RATE:
                level = 10 ** (draw.uniform(*LEVEL) / 20)
                audio = audio * np.float32(level / (np.sqrt(np.mean(audio * audio)) + 1e-9))
                total += len(audio)
                yield "kokoro", speaker, text, np.clip(audio, -1, 1)

    def voice(self, draw: random.Random) -> tuple[str, np.ndarray, str]:
        """A voice or a blend: its name, its style array and the language for its phonemes."""
        name = draw.choice(list(self.voices))
        style, language = self.voices[name], "en-gb" if name[0] == "b" else "en-us"
        if draw.random() < BLENDS:
            other, weight = draw.choice([v for v in self.voices if v != name]), draw.uniform(0.3, 0.8)
            style = weight * style + (1 - weight) * self.voices[other]
            name = f"{name}+{other}:{weight:.2f}"
        return name, style, language

    def read(self, text: str, style: np.ndarray, language: str, speed: float) -> np.ndarray:
        """(samples,) float32 at 16 kHz without silence at the ends; empty where there is nothing to say.

        `text` is spelled and punctuated as usual; `language` is one of espeak-ng.
        """
        phonemes = self.tokenizer.phonemize(text, language)
        tokens = self.tokenizer.tokenize(phonemes[:500])
        if not tokens:
            return np.zeros(0, np.float32)
        row = style.reshape(len(style), -1)[min(len(tokens), len(style)) - 1]
        values = (np.array([[0, *tokens, 0]]), row[None], np.array([speed], np.float32))
        audio = self.session.run(None, dict(zip(self.inputs, values, strict=True)))[0]
        return trimmed(soxr.resample(np.ravel(audio), VOICE_RATE, RATE).astype(np.float32))


def english(voice: str) -> bool:
    """Whether a voice is American or British, which the first letter of its name says."""
    return voice[0] in "ab"


def readable(text: str) -> str:
    """A sentence in lower case with a full stop; "I" keeps its letter."""
    return f" {text.lower()} ".replace(" i ", " I ").replace(" i'", " I'").strip().capitalize() + "."
