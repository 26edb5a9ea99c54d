"""Client audio in any declared format to 16 kHz mono float32, with the same output for any packet sizes.

Linear PCM, float and G.711 samples of 8 to 96 kHz; channels are averaged. Bytes that do not yet make a whole sample of
every channel are held back. Resampling keeps its filter state between packets (soxr); `flush` ends it.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import soxr
from numpy.typing import NDArray

from ..config import SAMPLE_BYTES, AudioFormat
from ..frames import SAMPLE_RATE
from .samples import finite, shaped

Float32 = NDArray[np.float32]

RESAMPLER_DELAY = 4096  # samples at 16 kHz that soxr's filter may hold back, with room to spare


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
    (n,) or (n, channels), and returns 16 kHz mono float32, shape (m,). Raises `AudioError` for samples that are not
    finite and for arrays of the wrong shape; the packet is then refused whole and the state is as before.
    """

    def __init__(self, audio: AudioFormat) -> None:
        self.format = audio
        self._held = b""
        self._resampler = self._new_resampler()

    def _new_resampler(self) -> soxr.ResampleStream | None:
        if self.format.sample_rate == SAMPLE_RATE:
            return None
        return soxr.ResampleStream(self.format.sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    @property
    def held_bytes(self) -> int:
        """Bytes of an unfinished sample that wait for their rest."""
        return len(self._held)

    def most(self, packet: bytes | bytearray | memoryview | NDArray[np.floating]) -> int:
        """Upper bound of the samples at 16 kHz that the packet adds, what was held back before apart."""
        width = SAMPLE_BYTES[self.format.encoding] * self.format.channels
        count = len(packet) if isinstance(packet, np.ndarray) else len(packet) // width + 1
        return count * SAMPLE_RATE // self.format.sample_rate + 1

    def receive(self, packet: bytes | bytearray | memoryview | NDArray[np.floating]) -> Float32:
        mono = _sound(self._mono(packet)) if isinstance(packet, np.ndarray) else self._decode(bytes(packet))
        return self._resample(mono)

    def flush(self) -> Float32:
        """Return what the resampling filter still holds; the next packet starts afresh."""
        if self._resampler is None:
            return np.empty(0, np.float32)
        tail = self._resampler.resample_chunk(np.empty(0, np.float32), last=True)
        self._resampler = self._new_resampler()
        return tail

    def check(self, packet: bytes | bytearray | memoryview | NDArray[np.floating]) -> None:
        """Raise `AudioError` if `receive` would; the state stays as it is."""
        if isinstance(packet, np.ndarray):
            _sound(self._mono(packet))
        elif self.format.encoding == "pcm_f32le":
            _sound(self._mono(self._samples(self._held + bytes(packet))))

    def _decode(self, packet: bytes) -> Float32:
        data = self._held + packet
        samples = self._samples(data)
        mono = self._mono(samples)
        if self.format.encoding == "pcm_f32le":  # of the others any bytes are sound
            mono = _sound(mono)
        self._held = data[samples.size * SAMPLE_BYTES[self.format.encoding] :]
        return mono

    def _samples(self, data: bytes) -> Float32:
        """The whole samples at the start of `data`, shape (n, channels)."""
        width = SAMPLE_BYTES[self.format.encoding] * self.format.channels
        block = data[: len(data) - len(data) % width]
        match self.format.encoding:
            case "pcm_s16le":
                samples = np.multiply(np.frombuffer(block, "<i2"), np.float32(1 / 32768), dtype=np.float32)
            case "pcm_f32le":
                samples = np.frombuffer(block, "<f4").astype(np.float32)
            case "mulaw" | "alaw" as law:
                samples = _G711[law][np.frombuffer(block, np.uint8)]
        return samples.reshape(-1, self.format.channels)

    def _mono(self, samples: NDArray[np.floating]) -> Float32:
        # In one memory order, as the order of a sum decides its last bit.
        ordered = np.ascontiguousarray(shaped(samples, self.format.channels), np.float32)
        return ordered[:, 0] if self.format.channels == 1 else cast(Float32, ordered.mean(axis=1, dtype=np.float32))

    def _resample(self, mono: Float32) -> Float32:
        if self._resampler is None or not len(mono):
            return mono
        return self._resampler.resample_chunk(mono)


def _sound(mono: Float32) -> Float32:
    """Float samples as a client sends them, if all are finite; those beyond full scale are clipped: the model has never
    heard such, whether the client goes wrong or too loud."""
    return finite(mono).clip(-1, 1)
