"""What a listener is spared of text that is about to change: the one place that decides it, on the clock of the audio.

The newest word has been heard only in part when it first appears, so it is the one that changes most ("SEV", "SEVEN").
It is held back until enough audio has followed it, or another word. A place that is filled already is not emptied
again: there the newest reading is shown at once. And no two partials come closer together than `update_ms` of audio;
the next one tells all that the ones between would have.

Holding back the end of the text is the remedy of Google's live captions among others (Liu et al., "Modeling and
Improving Text Stability in Live Captions", CHI 2023). Committed words are never held back.
"""

from __future__ import annotations

from ..config import SessionConfig
from ..frames import SAMPLE_RATE, ms
from ..protocol.events import Word


class PartialStabilizer:
    """Of one utterance. Samples are those of the session."""

    def __init__(self, config: SessionConfig) -> None:
        self._hold = config.hold_back_ms / 1000
        self._least = ms(config.update_ms)
        self._told: int | None = None  # sample up to which the last partial heard
        self._shown: tuple[Word, ...] = ()  # its words

    def show(self, words: tuple[Word, ...], heard: int) -> tuple[Word, ...] | None:
        """The words to show of those known from audio up to sample `heard`; None: no partial now."""
        if self._told is not None and heard - self._told < self._least:
            return None
        if words and self._early(words, heard):
            words = words[:-1]
        if words == self._shown:
            return None
        self._told, self._shown = heard, words
        return words

    def _early(self, words: tuple[Word, ...], heard: int) -> bool:
        """Whether the last word is to wait."""
        last = words[-1]
        return not last.committed and len(words) > len(self._shown) and heard / SAMPLE_RATE - last.end < self._hold
