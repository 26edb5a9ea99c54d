"""Audio files, read block by block (libsndfile: WAV, FLAC, Ogg, MP3 and more)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..config import MAX_CHANNELS, MAX_RATE, MIN_RATE
from ..errors import AudioError
from ..frames import FIELD, SAMPLE_RATE, too_short


class AudioFile:
    """An open file; `blocks` reads it once, from its start."""

    def __init__(self, path: Path, file: soundfile.SoundFile) -> None:
        self.path = path
        self.sample_rate: int = file.samplerate
        self.channels: int = file.channels
        self.seconds: float = file.frames / file.samplerate
        self._file = file

    def blocks(self, seconds: float = 0.1) -> Iterator[NDArray[np.float32]]:
        """Blocks of (n, channels) at the file's own rate, float32 in [-1, 1]; closes the file at the end."""
        size = max(1, round(seconds * self.sample_rate))
        with self._file as file:
            try:
                while len(block := cast(NDArray[np.float32], file.read(size, dtype="float32", always_2d=True))):
                    if not np.isfinite(block).all():
                        raise AudioError(f"{self.path}: the audio holds samples that are not finite (NaN or infinity)")
                    yield block
            except soundfile.LibsndfileError as error:
                raise AudioError(f"{self.path}: the file is damaged: {error.error_string}") from error


def open_audio(path: Path | str) -> AudioFile:
    """Open a file for reading. Raises `AudioError` if it is missing, unreadable, empty or too short for one frame."""
    path = Path(path)
    if not path.exists():
        raise AudioError(f"{path}: no such file")
    if path.is_dir():
        raise AudioError(f"{path}: is a directory, not an audio file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not an audio file that can be read: {error.error_string}") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened: {error.strerror}") from error
    problem = _problem(file)
    if problem:
        file.close()
        raise AudioError(f"{path}: {problem}")
    return AudioFile(path, file)


def _problem(file: soundfile.SoundFile) -> str | None:
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        return f"{file.samplerate} Hz; sample rates of {MIN_RATE} to {MAX_RATE} Hz are understood"
    if file.channels > MAX_CHANNELS:
        return f"{file.channels} channels; at most {MAX_CHANNELS} are understood"
    if file.frames == 0:
        return "holds no audio"
    if file.frames * SAMPLE_RATE < FIELD * file.samplerate:
        return too_short(file.frames, file.samplerate)
    return None
