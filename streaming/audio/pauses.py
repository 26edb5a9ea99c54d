"""How long a pause must last to end an utterance, from the speaker's pauses so far and from evidence about this one.

Most pauses are of two kinds: the speaker resumes soon, or is done. The longer a silence lasts, the fewer resumed pauses
are as long. So the odds that the speaker is done are

    evidence x (pauses that ended + 1) / (resumed pauses longer than the silence + those expected beforehand)

and the pause ends the utterance when they reach `ODDS`, within bounds. A hesitant speaker soon gets long hangovers, a
fluent one short ones. Pauses are silences of the detector, so they depend on the audio alone.
"""

from __future__ import annotations

from math import exp
from typing import Final, NamedTuple

from ..frames import ms
from .vad import FRAME

# Chosen on training recordings (`python -m tests.figures.measure_endpoint`): as many cuts as 600 ms of silence make,
# and the least delay.
ODDS: Final = 12.0
FADE: Final = ms(200)  # beforehand, resumed pauses get rarer by a factor e for each `FADE` of silence
FORGET: Final = 0.95  # factor on earlier pauses for each new one
TYPICAL_LAG: Final = ms(160)  # from the last token to the end of speech, as detectors find it
MOST_LAG: Final = ms(300)  # greatest lag beyond `TYPICAL_LAG` that counts as silence
_NEGLIGIBLE: Final = 0.05  # weight of a forgotten pause


class PauseEvidence(NamedTuple):
    """What the recognizer finds about a pause."""

    log_odds: float = 0.0  # natural logarithm of the factor on the odds that the speaker is done
    blank: int = 0  # samples without any token before the end of the audio that it examined


class Pauses:
    """The pauses of one speaker. Lengths are in samples: hangovers are `least` to `most`; audio that the recognizer
    examines ends `margin` after the last speech.
    """

    def __init__(self, *, least: int, most: int, margin: int) -> None:
        self.least = least
        self._most = most
        self._margin = margin
        self._ended = 0.0
        self._resumed: list[tuple[int, float]] = []  # length and weight

    def receive(self, length: int) -> None:
        """Take a pause that is over: speech began again after it."""
        if length < self.least:
            return
        self._ended *= FORGET
        self._resumed = [(each, weight * FORGET) for each, weight in self._resumed if weight > _NEGLIGIBLE]
        if length < self._most:
            self._resumed.append((length, 1.0))
        else:
            self._ended += 1.0

    def hangover(self, evidence: PauseEvidence) -> int:
        """How long this pause must last to end the utterance."""
        for silence in range(self.least, self._most, FRAME):
            if self.odds(silence, evidence) >= ODDS:
                return silence
        return self._most

    def odds(self, silence: int, evidence: PauseEvidence) -> float:
        """The odds that the speaker is done, after this much silence."""
        # Detectors hold on to breath and noise; blanks there are part of the silence.
        quiet = silence + max(0, min(MOST_LAG, evidence.blank - self._margin - TYPICAL_LAG))
        longer = sum(weight for length, weight in self._resumed if length > quiet)
        done = exp(min(evidence.log_odds, 100.0)) * (self._ended + 1.0)
        return done / (longer + exp((self.least - quiet) / FADE))
