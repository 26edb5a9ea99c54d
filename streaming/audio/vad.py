"""Voice activity: speech probability of 30 ms frames, by the libraries that do it well.

An edge of the core: with `silero` the only module that knows a library of detectors. Every detector takes frames of
`FRAME` samples, float32 in [-1, 1], in order and as many at once as there are, and returns their probabilities, which
do not depend on how many came together. Detectors hold the state of one stream. Silero costs about twenty times more
CPU than webrtcvad and hears speech, not loudness; so the default asks it only where webrtcvad fires.
"""

from __future__ import annotations

from itertools import groupby
from math import log10
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..config import VadName
from ..frames import SAMPLE_RATE, ms
from .silero import CHUNK, Silero

Frames = NDArray[np.float32]  # (n, FRAME)

FRAME: Final = ms(30)  # webrtcvad takes 10, 20 or 30 ms
_WARM_UP: Final = 4  # frames before webrtcvad's onset that Silero hears as well, as it needs context to be sure


class Vad(Protocol):
    def __call__(self, frames: Frames) -> list[float]:
        """Speech probabilities of the next frames, shape (n, FRAME)."""
        ...

    def reset(self) -> None:
        """Forget the past: the next frame does not follow the last one."""
        ...


class WebrtcVad:
    """Google's GMM detector: 1.0 or 0.0. Hears most of what is loud; `mode` 0 to 3 is its aggressiveness."""

    def __init__(self, mode: int = 2) -> None:
        import webrtcvad

        self._mode = mode
        self._new = webrtcvad.Vad
        self._vad = self._new(mode)

    def __call__(self, frames: Frames) -> list[float]:
        pcm, size = (frames * 32767).astype("<i2").tobytes(), 2 * FRAME
        packed = (pcm[at : at + size] for at in range(0, len(pcm), size))
        return [1.0 if self._vad.is_speech(frame, SAMPLE_RATE) else 0.0 for frame in packed]

    def reset(self) -> None:
        self._vad = self._new(self._mode)


class SileroVad:
    """Silero: a probability for every chunk of its own, carried on to the 30 ms frames that end after it."""

    def __init__(self) -> None:
        self._silero = Silero()
        self._held = np.empty(0, np.float32)  # less than a chunk
        self._probability = 0.0

    def __call__(self, frames: Frames) -> list[float]:
        heard = np.concatenate((self._held, frames.ravel()))
        count = len(heard) // CHUNK
        told = [self._probability, *self._silero(heard[: count * CHUNK].reshape(count, CHUNK))]
        complete = range(len(self._held) + FRAME, len(heard) + 1, FRAME)
        self._held, self._probability = heard[count * CHUNK :].copy(), told[-1]
        return [told[samples // CHUNK] for samples in complete]

    def reset(self) -> None:
        self._silero.reset()
        self._held = self._held[:0]
        self._probability = 0.0


class CascadeVad:
    """webrtcvad on every frame, Silero only where webrtcvad fires, with a little context before."""

    def __init__(self, mode: int = 1) -> None:
        self._webrtc = WebrtcVad(mode)
        self._silero = SileroVad()
        self._before = np.empty((0, FRAME), np.float32)  # the frames before that Silero has not heard
        self._following = False

    def __call__(self, frames: Frames) -> list[float]:
        told: list[float] = []
        for fires, run in groupby(self._webrtc(frames)):
            start = len(told)
            end = start + sum(1 for _ in run)
            if not fires:
                self._before = np.concatenate((self._before, frames[start:end]))[-_WARM_UP:]
                told += [0.0] * (end - start)
            elif self._following:
                told += self._silero(frames[start:end])
            else:
                self._silero.reset()
                told += self._silero(np.concatenate((self._before, frames[start:end])))[len(self._before) :]
                self._before = self._before[:0]
            self._following = bool(fires)
        return told

    def reset(self) -> None:
        self._webrtc.reset()
        self._before = self._before[:0]
        self._following = False


class EnergyVad:
    """Loudness over an adaptive noise floor: no library, little CPU, for close microphones in quiet rooms.

    1.0 where the frame is 12 dB over the floor and above -50 dBFS. The floor falls at once and rises 1.5 dB a second.
    """

    _MARGIN_DB, _LEAST_DB, _RISE_DB = 12.0, -50.0, 1.5 * FRAME / SAMPLE_RATE

    def __init__(self) -> None:
        self._floor = -50.0

    def __call__(self, frames: Frames) -> list[float]:
        told: list[float] = []
        for power in np.mean(np.square(frames, dtype=np.float64), axis=1).tolist():
            level = 10 * log10(power + 1e-12)
            self._floor = min(level, self._floor + self._RISE_DB)
            told.append(float(level > max(self._floor + self._MARGIN_DB, self._LEAST_DB)))
        return told

    def reset(self) -> None:
        self._floor = -50.0


def make_vad(name: VadName) -> Vad | None:
    """The detector of that name, with fresh state; None for "none"."""
    match name:
        case "cascade":
            return CascadeVad()
        case "webrtc":
            return WebrtcVad()
        case "silero":
            return SileroVad()
        case "energy":
            return EnergyVad()
        case "none":
            return None
