"""Loudness of speech, and a hint for sessions whose speech is always too quiet."""

from __future__ import annotations

from math import log10
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..frames import ms

QUIET_DB: Final = -45.0  # dBFS
_BLOCK: Final = ms(100)
_DECIDING: Final = ms(3_000)  # speech before the hint


def speech_level(samples: NDArray[np.float32]) -> float:
    """Loudness of an utterance in dBFS: the root mean square of the louder half of its blocks, so pauses count less."""
    count = max(1, len(samples) // _BLOCK)
    blocks = np.array_split(np.square(samples, dtype=np.float64), count)
    powers = sorted(float(block.mean()) for block in blocks if len(block))
    louder = powers[len(powers) // 2 :]
    return 10 * log10(sum(louder) / max(1, len(louder)) + 1e-12)


class QuietCheck:
    """Watches the utterances of one session."""

    def __init__(self) -> None:
        self._samples = 0
        self._loudest = float("-inf")  # dBFS
        self._done = False

    def receive(self, samples: NDArray[np.float32]) -> str | None:
        """Take an utterance with words, shape (n,). Returns the hint at most once, and only if all were quiet."""
        if self._done:
            return None
        self._samples += len(samples)
        self._loudest = max(self._loudest, speech_level(samples))
        if self._loudest < QUIET_DB and self._samples < _DECIDING:
            return None
        self._done = True
        if self._loudest >= QUIET_DB:
            return None
        return f"the speech is very quiet ({self._loudest:.0f} dBFS): raise the level of the microphone"
