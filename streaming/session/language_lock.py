"""Decides on the language of an utterance: it is certain when its probability stays high for a while.

                 best language above `enter` (`leave` if it differs from the last) for `hold_s`,
                 after `least_s` of speech
    LISTENING ────────────────────────────────────────────────────────────────────────────▶ DECIDED
        │                                                                                     ▲
        └── no time to wait for more: `settle` keeps the last certain language, or guesses ───┘

The lock decides once in an utterance and keeps that decision until the next. A guess does not bind the session: the
next utterance starts from the last language that was certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..config import SessionConfig

Shares = Mapping[str, float]  # probability of each allowed language; their sum is 1


class LanguageDecision(NamedTuple):
    language: str  # one of the allowed
    probability: float


class LanguageLock:
    """For one session. Times are seconds of speech since the utterance began."""

    def __init__(self, *, enter: float, leave: float, least_s: float, hold_s: float) -> None:
        self.language: str | None = None  # the last one that was certain
        self._enter = enter
        self._leave = leave
        self._least_s = least_s
        self._hold_s = hold_s
        self.begin()

    def begin(self) -> None:
        """An utterance begins."""
        self.decision: LanguageDecision | None = None
        self._candidate: str | None = None
        self._since = 0.0

    def receive(self, speech_s: float, shares: Shares) -> LanguageDecision | None:
        """Take the probabilities after so much speech, in order; return the decision once there is one."""
        if self.decision is not None:
            return self.decision
        best = _best(shares)
        if not self._believes(best, speech_s, shares):
            self._candidate = None
            return None
        if best != self._candidate:
            self._candidate, self._since = best, speech_s
        if speech_s - self._since >= self._hold_s:
            self._decide(best, shares)
            self.language = best
        return self.decision

    def settle(self, speech_s: float, shares: Shares) -> LanguageDecision:
        """Decide now, with the last probabilities: for the last certain language unless another is above `leave`."""
        if self.decision is None:
            best = _best(shares)
            if self._believes(best, speech_s, shares):
                self.language = best
            elif self.language is not None:
                best = self.language
            self._decide(best, shares)
        assert self.decision is not None
        return self.decision

    def restrict(self, allowed: Sequence[str]) -> None:
        """Forget the last certain language unless it is one of those allowed from here on."""
        if self.language not in allowed:
            self.language = None

    def _believes(self, language: str, speech_s: float, shares: Shares) -> bool:
        threshold = self._enter if self.language in (None, language) else self._leave
        return speech_s >= self._least_s and shares[language] >= threshold

    def _decide(self, language: str, shares: Shares) -> None:
        self.decision = LanguageDecision(language, shares[language])


def make_lock(config: SessionConfig) -> LanguageLock:
    """The lock of a session."""
    return LanguageLock(
        enter=config.language_enter,
        leave=config.language_leave,
        least_s=config.language_least_ms / 1000,
        hold_s=config.language_hold_ms / 1000,
    )


def _best(shares: Shares) -> str:
    """The most probable language, the first of equals."""
    return max(shares, key=lambda language: shares[language])
