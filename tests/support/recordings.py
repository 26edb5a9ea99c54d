"""The clips of the tests as arguments of commands, and files that no command can transcribe."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile

from tests.support.paths import CLIPS

TEXTS = {
    "george": "ONE TWO NINE FOUR EIGHT ONE",
    "jackson": "THREE EIGHT FOUR FIVE FIVE FOUR",
    "nicolas": "ZERO TWO TWO FOUR SEVEN SIX ZERO",
}


SPEECH = list(TEXTS)


def flac(name: str) -> str:
    return str(CLIPS / f"{name}.flac")


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    made = {name: folder / f"{name}.wav" for name in ("empty", "noise", "header", "short", "nan", "missing")}
    made["empty"].touch()
    made["noise"].write_bytes(os.urandom(4_000))
    soundfile.write(made["header"], np.zeros(0, np.int16), 16_000)
    soundfile.write(made["short"], np.zeros(3, np.int16), 16_000)
    broken = np.zeros(16_000, np.float32)
    broken[9_000] = np.nan
    soundfile.write(made["nan"], broken, 16_000, subtype="FLOAT")
    words = {
        "empty": "empty",
        "noise": "not an audio file",
        "header": "no audio",
        "short": "at least 25 ms",
        "nan": "not finite",
        "missing": "no such file",
    }
    return {name: (path, words[name]) for name, path in made.items()}
