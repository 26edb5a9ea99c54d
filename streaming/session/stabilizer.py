"""Which words a partial shows: the one place that hides text which is about to change, on the clock of the audio.

The newest word is incomplete when it first appears, so it changes most ("SEV", "SEVEN"). It waits until enough audio or
another word follows. Words on display stay: a new reading replaces them at once. Partials come at least `update_ms` of
audio apart; each has all the news since the one before.

Google's live captions among others hold back the end of the text (Liu et al., "Modeling and Improving Text Stability in
Live Captions", CHI 2023). Committed words never wait.
"""

from __future__ import annotations

from ..config import SessionConfig
from ..frames import SAMPLE_RATE, ms
from ..protocol.events import Word


class PartialStabilizer:
    """For one utterance. Samples are those of the session."""

    def __init__(self, config: SessionConfig) -> None:
        self._hold = config.hold_back_ms / 1000
        self._least = ms(config.update_ms)
        self._last: int | None = None  # end sample of the last partial
        self._shown: tuple[Word, ...] = ()  # its words

    def show(self, words: tuple[Word, ...], end_sample: int) -> tuple[Word, ...] | None:
        """Choose from the words of the audio up to `end_sample` those to show; None means no partial now."""
        if self._last is not None and end_sample - self._last < self._least:
            return None
        if words and self._too_early(words, end_sample):
            words = words[:-1]
        if words == self._shown:
            return None
        self._last, self._shown = end_sample, words
        return words

    def _too_early(self, words: tuple[Word, ...], end_sample: int) -> bool:
        """Whether the last word waits."""
        last = words[-1]
        is_new = len(words) > len(self._shown)
        return not last.committed and is_new and end_sample / SAMPLE_RATE - last.end < self._hold
