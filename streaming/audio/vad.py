"""Voice activity detection: the speech probability of 30 ms frames.

Every detector takes any number of frames of `FRAME` samples, float32 in [-1, 1], in order, and returns their
probabilities, which do not depend on how the frames are split into calls. A detector holds the state of one stream.
Silero recognizes speech where webrtcvad measures loudness, but costs about twenty times more CPU. So the default runs
Silero only around frames at which webrtcvad fires.
"""

from __future__ import annotations

from math import log10
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..config import VadName
from ..frames import SAMPLE_RATE, ms
from .silero import CHUNK, Silero

Frames = NDArray[np.float32]  # (n, FRAME)

FRAME: Final = ms(30)  # webrtcvad takes 10, 20 or 30 ms
_WARM_UP: Final = 4  # frames before webrtcvad fires that Silero takes first
_FOLLOW_WEBRTC: Final = 10  # frames that Silero follows after one at which webrtcvad fires: most of them are noise
_FOLLOW: Final = 34  # frames that it follows after a sign of its own: webrtcvad misses whole words of soft speech
_SIGN: Final = 0.1  # probability: far less than speech, more than most noise


class Vad(Protocol):
    """A speech detector of one stream."""

    def __call__(self, frames: Frames) -> list[float]:
        """Speech probabilities of the next frames, shape (n, FRAME)."""
        ...

    def reset(self) -> None:
        """Start a new stream: the next frame does not follow the last one."""
        ...


class WebrtcVad:
    """Google's GMM detector: 1.0 for most loud sounds, else 0.0; `mode` 0 to 3 is its aggressiveness."""

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
    """Silero on every frame. A frame gets the probability of the last Silero chunk that ends in or before it."""

    def __init__(self) -> None:
        self._silero = Silero()
        self._held = np.empty(0, np.float32)  # less than a chunk
        self._probability = 0.0

    def __call__(self, frames: Frames) -> list[float]:
        samples = np.concatenate((self._held, frames.ravel()))
        count = len(samples) // CHUNK
        known = [self._probability, *self._silero(samples[: count * CHUNK].reshape(count, CHUNK))]
        frame_ends = range(len(self._held) + FRAME, len(samples) + 1, FRAME)
        self._held, self._probability = samples[count * CHUNK :].copy(), known[-1]
        return [known[end // CHUNK] for end in frame_ends]

    def begin_after_silence(self) -> None:
        """See `Silero`."""
        self._silero.begin_after_silence()

    def skip(self, frames: int) -> None:
        """The stream goes on after these frames: the network keeps its state, and the chunks their places."""
        self._silero.skip()
        self._held = np.zeros((len(self._held) + frames * FRAME) % CHUNK, np.float32)
        self._probability = 0.0

    def reset(self) -> None:
        self._silero.reset()
        self._held = self._held[:0]
        self._probability = 0.0


class CascadeVad:
    """webrtcvad on every frame; Silero from one at which it fires, as long as either of the two gives a sign of speech.

    Silero keeps the state of its network over the frames that it skips, so that it needs little context to go on.
    """

    def __init__(self, mode: int = 1) -> None:
        self._webrtc = WebrtcVad(mode)
        self._silero = SileroVad()
        self._context = np.empty((0, FRAME), np.float32)  # the last of the frames that Silero has not taken
        self._skipped = 0  # frames before them
        self._remaining = 0  # frames that Silero still follows without another sign
        self._begun = False  # Silero has taken frames

    def __call__(self, frames: Frames) -> list[float]:
        fires = self._webrtc(frames)
        probabilities: list[float] = []
        while (start := len(probabilities)) < len(frames):
            if not self._remaining and not fires[start]:
                end = next((at for at in range(start, len(fires)) if fires[at]), len(fires))
                self._skip(frames[start:end])
                probabilities += [0.0] * (end - start)
                continue
            end = self._certain(fires, start)
            probabilities += self._follow(frames[start:end])
            for fired, probability in zip(fires[start:end], probabilities[start:end], strict=True):
                self._remaining = _remaining(self._remaining, fired, probability)
        return probabilities

    def reset(self) -> None:
        self._webrtc.reset()
        self._silero.reset()
        self._context = self._context[:0]
        self._skipped = self._remaining = 0
        self._begun = False

    def _skip(self, frames: Frames) -> None:
        missed = np.concatenate((self._context, frames))
        self._context = missed[-_WARM_UP:]
        self._skipped += len(missed) - len(self._context)

    def _certain(self, fires: list[float], start: int) -> int:
        """End of the frames from `start` that Silero takes whatever its own probabilities are."""
        remaining, end = self._remaining, start
        while end < len(fires) and (remaining or fires[end]):
            remaining, end = _remaining(remaining, fires[end], 0.0), end + 1
        return end

    def _follow(self, frames: Frames) -> list[float]:
        if self._remaining:
            return self._silero(frames)
        if not self._begun and len(self._context):
            self._silero.begin_after_silence()
        self._begun = True
        if self._skipped:
            self._silero.skip(self._skipped)
        context, self._context, self._skipped = self._context, self._context[:0], 0
        return self._silero(np.concatenate((context, frames)))[len(context) :]


def _remaining(before: int, fired: float, probability: float) -> int:
    """Frames that Silero still follows after a frame, from the number before that frame."""
    if probability >= _SIGN:
        return _FOLLOW
    return max(before - 1, _FOLLOW_WEBRTC if fired else 0)


class EnergyVad:
    """Loudness above an adaptive noise floor: no library, little CPU, for close microphones in quiet rooms.

    1.0 for frames 12 dB above the floor and above -50 dBFS. The floor falls at once and rises 1.5 dB a second.
    """

    _MARGIN_DB, _LEAST_DB, _RISE_DB = 12.0, -50.0, 1.5 * FRAME / SAMPLE_RATE

    def __init__(self) -> None:
        self._floor = -50.0

    def __call__(self, frames: Frames) -> list[float]:
        probabilities: list[float] = []
        for power in np.mean(np.square(frames, dtype=np.float64), axis=1).tolist():
            level = 10 * log10(power + 1e-12)
            self._floor = min(level, self._floor + self._RISE_DB)
            probabilities.append(float(level > max(self._floor + self._MARGIN_DB, self._LEAST_DB)))
        return probabilities

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
