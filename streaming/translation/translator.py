"""The interface of all translators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import XlsrLiveError


class TranslationError(XlsrLiveError):
    """A translator failed on its input, or does not work at all."""

    code = "translation_failed"


class Segment(NamedTuple):
    """One utterance to translate into one language. Languages are codes of its translator."""

    text: str  # the final's
    samples: NDArray[np.float32] | None  # (n,), 16 kHz; only for translators of speech
    source: str | None  # None: unknown, or of no importance
    target: str

    @property
    def size(self) -> int:
        """What the cost grows with: samples or characters."""
        return len(self.text) if self.samples is None else len(self.samples)


class Translator(Protocol):
    """One thread at a time calls it. A call that hangs is abandoned, and the next comes from another thread."""

    name: str
    speech: bool  # it translates the audio, not the text
    costly: bool  # it takes much of the processor that the recognizer needs
    max_batch: int  # most segments in one call

    def sources(self) -> tuple[str, ...]:
        """Codes of the languages that it translates from; empty: any, or it does not know."""
        ...

    def targets(self, source: str | None) -> tuple[str, ...]:
        """Codes of the languages that it translates `source` into, which is one of `sources` or None."""
        ...

    def translate(self, segments: Sequence[Segment]) -> list[str]:
        """One text for each segment, in order. Any exception fails the whole batch."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...
