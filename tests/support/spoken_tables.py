"""Tables of made-up recordings for training: tones and noise that stand for words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
WORDS = {"ABE": 300.0, "BADE": 500.0, "CAFE": 800.0, "DEAF": 1200.0}


def sound(text: str, seed: int, seconds: float = 0.5) -> np.ndarray:
    """A tone for each word, with a little noise: (samples,) float32."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(RATE * seconds)) / RATE
    pieces = [np.sin(2 * np.pi * WORDS.get(word, 100.0) * time) * np.hanning(len(time)) for word in text.split()]
    x = np.concatenate([*pieces, np.zeros(800)]) * 0.2
    return (x + draw.normal(0, 0.002, len(x))).astype(np.float32)


def write_table(folder: Path, count: int = 24, speakers: int = 6, seed: int = 0, name: str = "table") -> Path:
    """Recordings of one to three words, and their table."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    lines = ["file\ttext\tspeaker"]
    for number in range(count):
        text = " ".join(draw.choice(list(WORDS), int(draw.integers(1, 4))))
        file = f"{name}-{number:03}.wav"
        soundfile.write(folder / file, sound(text, seed + number), RATE)
        lines.append(f"{file}\t{text}\t{name}{number % speakers}")
    table = folder / f"{name}.tsv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table
