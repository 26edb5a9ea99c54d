"""Converts a whole recording to 16 kHz mono, as a session converts its audio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..config import AudioFormat
from .decoder import AudioDecoder
from .files import AudioFile, AudioSource, open_audio


def read_samples(source: AudioSource | AudioFile) -> NDArray[np.float32]:
    """16 kHz mono samples, (n,). Raises `AudioError`."""
    file = source if isinstance(source, AudioFile) else open_audio(source)
    decoder = AudioDecoder(AudioFormat(sample_rate=file.sample_rate, channels=file.channels))
    return np.concatenate([*(decoder.receive(block) for block in file.blocks(1.0)), decoder.flush()])
