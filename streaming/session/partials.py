"""Live steps of an utterance as partials."""

from __future__ import annotations

from ..config import SessionConfig
from ..overload import Level
from ..protocol.events import Partial
from .decoding import Decoding
from .stabilizer import PartialStabilizer
from .step_decoder import Step
from .to_events import report_partial, report_words


class PartialMaker:
    """For one utterance, which begins at sample `start`."""

    def __init__(self, config: SessionConfig, decoding: Decoding, *, utterance: int, start: int) -> None:
        self._enabled = config.shows_partials
        self._decoding = decoding
        self._utterance = utterance
        self._start = start
        self._stabilizer = PartialStabilizer(config)

    def make(self, step: Step, level: Level) -> Partial | None:
        """The partial of a live step; None without news."""
        if step.cut is not None or not self._enabled:
            return None
        volatile = step.volatile if level < Level.COMMITTED else ()
        count = len(step.committed)
        confidences = self._decoding.live((*step.committed, *volatile)).confidences
        words = (
            *report_words(step.committed, confidences[:count], self._start),
            *report_words(volatile, confidences[count:], self._start, committed=False),
        )
        shown = self._stabilizer.show(words, step.end_sample)
        if shown is None:
            return None
        return report_partial(shown, self._decoding, utterance=self._utterance, end_sample=step.end_sample)
