"""What several test modules share: the bundled model, loaded once, and the clips in the package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from xlsr_live.streaming.recognizer import Recognizer

CLIPS = Path(__file__).parents[1] / "client" / "clips"


@pytest.fixture(scope="session")
def recognizer() -> Iterator[Recognizer]:
    recognizer = Recognizer.load("bundled", device="cpu", adaptive=False)  # whatever else the machine does
    yield recognizer
    recognizer.close()


@pytest.fixture(scope="session")
def clip() -> Callable[[str], NDArray[np.int16]]:
    """A clip of the package by its name: 16 kHz mono samples."""

    def read(name: str) -> NDArray[np.int16]:
        samples, rate = soundfile.read(CLIPS / f"{name}.flac", dtype="int16")
        assert rate == 16_000
        return samples

    return read
