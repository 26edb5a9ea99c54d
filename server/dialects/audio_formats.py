"""Detects the audio format of clients that declare none or a wrong one: raw samples, WAV, or a container."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from ...streaming.audio.wav_stream import WavStream
from ...streaming.config import AudioFormat
from ...streaming.errors import AudioError
from .containers import MAGIC, ContainerDecoder, available


class AudioIntake:
    """Detects the format from the first bytes. `declared` is the format of raw samples; None: only WAV and containers.

    `receive` and `end` yield audio in the format that `format` then holds. Both raise `AudioError`.
    """

    def __init__(self, declared: AudioFormat | None) -> None:
        self.format: AudioFormat | None = None
        self._declared = declared
        self._head = b""
        self._wav: WavStream | None = None
        self._container: ContainerDecoder | None = None

    async def receive(self, data: bytes) -> AsyncIterator[bytes | NDArray[np.float32]]:
        if self._wav is None and self._container is None:
            data = self._head = self._head + data
            if any(magic.startswith(data) for magic in MAGIC) and data not in MAGIC:
                return  # too short to decide
            self._choose(data)
        if self._container is None:
            for samples in self._samples(data):
                yield samples
        elif data:
            async for block in self._container.decode(data):
                self.format = self._container.format
                yield block

    async def end(self) -> AsyncIterator[NDArray[np.float32]]:
        """The end of the input: yields what a container still holds."""
        if self._container is not None:
            async for block in self._container.decode(b""):
                self.format = self._container.format
                yield block

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def _choose(self, data: bytes) -> None:
        container = MAGIC.get(data[:4])
        if self._declared is not None or container is None:
            self._wav = WavStream()
        elif available():
            self._container = ContainerDecoder(container)
        else:
            raise AudioError("this server cannot decode containers; it needs: pip install 'xlsr-live[containers]'")

    def _samples(self, data: bytes) -> list[bytes]:
        assert self._wav is not None
        samples = self._wav.receive(data)
        self.format = self._wav.format or self._declared
        if samples and self.format is None:
            raise AudioError("the audio is neither WAV, Ogg nor WebM; the format of raw audio must be declared")
        return [samples] if samples else []
