"""Recordings with their texts, decoded once: 16 kHz mono samples of 16 bits in one mapped file.

All runs read the same samples, whatever the format of the recordings. Decoding also proves that every recording is
readable to its end.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..streaming.audio.files import open_audio
from ..streaming.audio.whole import read_samples
from ..streaming.errors import AudioError
from ..streaming.frames import SAMPLE_RATE
from .augment import Samples


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of a table: a recording, its transcript and its speaker (empty: unknown)."""

    path: Path
    text: str
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Where the samples of a recording lie, or why there are none; and its form before decoding."""

    start: int = 0
    samples: int = 0
    rate: int = SAMPLE_RATE
    channels: int = 1
    level: float = 0.0  # root mean square
    problem: str = ""

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE


class Audio:
    """The mapped samples."""

    def __init__(self, path: Path) -> None:
        self._samples: Any = np.memmap(path, np.int16, mode="r") if path.stat().st_size else np.empty(0, np.int16)

    def __call__(self, decoded: Decoded) -> Samples:
        """(samples,) float32 in [-1, 1)."""
        part: NDArray[np.int16] = self._samples[decoded.start : decoded.start + decoded.samples]
        return part.astype(np.float32) / np.float32(32768)


def decode(
    listed: Sequence[Listed], folder: Path, advance: Callable[[], None] = lambda: None
) -> tuple[Audio, list[Decoded]]:
    """Decode all recordings into `folder`, or read the result of an earlier call with the same files."""
    table, file = folder / "audio.json", folder / "audio.i16"
    key = _key(listed)
    if table.exists() and (known := json.loads(table.read_text(encoding="utf-8")))["key"] == key:
        return Audio(file), [Decoded(**row) for row in known["rows"]]
    folder.mkdir(parents=True, exist_ok=True)
    table.unlink(missing_ok=True)
    rows: list[Decoded] = []
    position = 0
    with file.open("wb") as out:
        for each in listed:
            samples, row = _decode(each.path, position)
            samples.tofile(out)
            rows.append(row)
            position += len(samples)
            advance()
    content = {"key": key, "rows": [{name: getattr(row, name) for name in Decoded.__slots__} for row in rows]}
    part = table.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    os.replace(part, table)  # written last: with it, the samples are complete
    return Audio(file), rows


def _decode(path: Path, position: int) -> tuple[NDArray[np.int16], Decoded]:
    try:
        file = open_audio(path)
        rate, channels = file.sample_rate, file.channels
        samples = read_samples(file)
    except AudioError as error:
        return np.empty(0, np.int16), Decoded(position, problem=str(error).removeprefix(f"{path}: "))
    level = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    coded = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
    return coded, Decoded(position, len(samples), rate, channels, level)


def _key(listed: Sequence[Listed]) -> str:
    """Changes with any file."""
    stats: list[tuple[str, int, int]] = []
    for each in listed:
        found = cast(Any, os.stat(each.path)) if each.path.exists() else None
        stats.append((str(each.path), found.st_size if found else -1, found.st_mtime_ns if found else -1))
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()
