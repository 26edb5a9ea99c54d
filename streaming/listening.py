"""Whole utterances out of audio, for those who want rows of log-probabilities and no text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .audio import AudioDecoder
from .config import AudioFormat, SessionConfig
from .frames import FIELD, ms
from .front import FrontEnd
from .normalize import normalize
from .vad import Vad

Float32 = NDArray[np.float32]
_PIECE = 1_600  # samples of the packets that the gate is given


class Speech(NamedTuple):
    start: int  # sample of the session
    samples: Float32  # 16 kHz mono, normalised where the checkpoint wants it


class Ears:
    """The gate alone: `receive` audio and get the utterances that have ended, then `finish`.

    An utterance that gets longer than `max_utterance_ms` is cut there: no command is so long.
    """

    def __init__(
        self, config: SessionConfig, audio: AudioFormat | None = None, *, vad: Vad | None, normalized: bool
    ) -> None:
        self._audio = AudioDecoder(audio or AudioFormat())
        self._front = FrontEnd(config, vad)
        self._longest = ms(config.max_utterance_ms)
        self._normalized = normalized

    def receive(self, packet: bytes | NDArray[np.floating]) -> list[Speech]:
        """Take a packet of the declared format. Raises `AudioError`."""
        return self._hear(self._audio.receive(packet))

    def finish(self) -> list[Speech]:
        """The input is over."""
        ended = self._hear(self._audio.flush())
        self._front.finish("end")
        return ended + self._ended()

    def _hear(self, samples: Float32) -> list[Speech]:
        ended: list[Speech] = []
        for at in range(0, len(samples), _PIECE):
            self._front.receive(samples[at : at + _PIECE])
            if self._front.spans and self._front.position - self._front.spans[-1].start >= self._longest:
                self._front.finish("flush")
            ended += self._ended()
        return ended

    def _ended(self) -> list[Speech]:
        ended: list[Speech] = []
        spans = self._front.spans
        while spans and (end := spans[0].end) is not None:
            start = spans.popleft().start
            if end - start >= FIELD:
                samples = self._front.ring.read(start, end)
                ended.append(Speech(start, normalize(samples) if self._normalized else samples))
        self._front.release()
        return ended
