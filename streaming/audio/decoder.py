"""Converts client audio to 16 kHz mono float32. Packet sizes do not change the output.

Formats are linear PCM, float and G.711 at 8 to 96 kHz; `downmix` makes one channel of several. The decoder holds back
incomplete samples until their last byte arrives. The resampler (soxr) keeps its filter state between packets until
`flush`.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from ..config import SAMPLE_BYTES, AudioFormat
from ..frames import SAMPLE_RATE
from .downmix import Downmix
from .samples import IntegerCheck, checked, shaped

Float32 = NDArray[np.float32]
Packet = bytes | bytearray | memoryview | NDArray[np.floating]

RESAMPLER_DELAY = 4096  # samples at 16 kHz: upper bound of the delay of soxr's filter


def _mulaw_table() -> Float32:
    """ITU-T G.711 mu-law: complemented sign, 3 bits of exponent, 4 of mantissa."""
    code = ~np.arange(256) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 132 << (code >> 4 & 7)) - 132
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> Float32:
    """ITU-T G.711 A-law: even bits inverted, 3 bits of exponent, 4 of mantissa."""
    code = np.arange(256) ^ 0x55
    exponent, mantissa = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, mantissa + 264 << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


_G711 = {"mulaw": _mulaw_table(), "alaw": _alaw_table()}


class AudioDecoder:
    """Stateful conversion of one stream's packets.

    `receive` takes bytes in the declared format, or an array of float samples in [-1, 1] at the declared rate, shaped
    (n,) or (n, channels), and returns 16 kHz mono float32, shape (m,). It raises `AudioError` for a wrong shape, for
    samples that are not finite, and for samples that look like another format than the declared one; then it refuses
    the whole packet and its state stays.
    """

    def __init__(self, audio: AudioFormat) -> None:
        self.received = 0  # samples of each channel
        self.format = audio
        self._width = SAMPLE_BYTES[audio.encoding] * audio.channels  # bytes of one sample of every channel
        self._held = b""
        self._integers = IntegerCheck()
        self._downmix = Downmix.of(audio.channels, audio.sample_rate)
        self._resampler = self._new_resampler()

    def _new_resampler(self) -> soxr.ResampleStream | None:
        if self.format.sample_rate == SAMPLE_RATE:
            return None
        return soxr.ResampleStream(self.format.sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    @property
    def held_bytes(self) -> int:
        """Bytes of an incomplete sample."""
        return len(self._held)

    def most(self, packet: Packet) -> int:
        """Upper bound of the 16 kHz samples that the packet adds, not counting earlier samples held back."""
        count = len(packet) if isinstance(packet, np.ndarray) else len(packet) // self._width + 1
        return count * SAMPLE_RATE // self.format.sample_rate + 1

    def receive(self, packet: Packet) -> Float32:
        channels = self._from_array(packet) if isinstance(packet, np.ndarray) else self._from_bytes(bytes(packet))
        self.received += len(channels)
        mono, self._downmix = self._downmix.receive(channels)
        return self._resample(mono)

    def flush(self) -> Float32:
        """Return the remaining samples of the resampling filter. The next packet starts a new stream."""
        self._downmix = Downmix.of(self.format.channels, self.format.sample_rate)
        if self._resampler is None:
            return np.empty(0, np.float32)
        tail = self._resampler.resample_chunk(np.empty(0, np.float32), last=True)
        self._resampler = self._new_resampler()
        return tail

    def check(self, packet: Packet) -> None:
        """Raise the `AudioError` that `receive` would raise; the state stays as it is."""
        if isinstance(packet, np.ndarray):
            self._from_array(packet)
        elif self.format.encoding == "pcm_f32le":
            self._from_array(self._samples(self._held + bytes(packet)))
        elif self.format.encoding == "pcm_s16le":
            self._integers.after(bytes(packet))

    def _from_bytes(self, packet: bytes) -> Float32:
        data = self._held + packet
        samples = self._samples(data)
        match self.format.encoding:
            case "pcm_f32le":
                samples = self._from_array(samples)
            case "pcm_s16le":
                self._integers = self._integers.after(packet)
            case "mulaw" | "alaw":  # any bytes are valid
                pass
        self._held = data[len(samples) * self._width :]
        return samples

    def _from_array(self, samples: NDArray[np.floating]) -> Float32:
        """Float samples, (n, channels), clipped to full scale, the loudest audio in the model's training data."""
        valid = checked(shaped(samples, self.format.channels))
        # In one memory order: sums must add in the same order to be equal to the last bit.
        return np.ascontiguousarray(valid, np.float32).clip(-1, 1)

    def _samples(self, data: bytes) -> Float32:
        """The whole samples at the start of `data`, shape (n, channels)."""
        block = data[: len(data) - len(data) % self._width]
        match self.format.encoding:
            case "pcm_s16le":
                samples = np.multiply(np.frombuffer(block, "<i2"), np.float32(1 / 32768), dtype=np.float32)
            case "pcm_f32le":
                samples = np.frombuffer(block, "<f4").astype(np.float32)
            case "mulaw" | "alaw" as law:
                samples = _G711[law][np.frombuffer(block, np.uint8)]
        return samples.reshape(-1, self.format.channels)

    def _resample(self, mono: Float32) -> Float32:
        if self._resampler is None or not len(mono):
            return mono
        return self._resampler.resample_chunk(mono)
