"""Which language an utterance is in: asked while it begins, answered once, before any of its text is shown.

The question is asked of the audio up to fixed places: after the speech that the lock needs at least, and if that does
not suffice, after all that partials may wait for; in both cases earlier if the utterance ends before. So it depends on
the audio alone.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..audio.normalize import EPSILON, normalize
from ..config import SessionConfig
from ..frames import FIELD, SAMPLE_RATE, STRIDE, ms
from ..requests import Request
from .deciders import Decider
from .language_lock import LanguageDecision, LanguageLock

_EVERY: Final = 5  # frames between two looks at the probabilities


class IdentificationState(Enum):
    LISTENING = auto()  # waits for audio
    ENCODING = auto()
    DECIDED = auto()


class Identification:
    """Of one utterance, which begins at sample `start`; its speech begins `lead` samples later at most. `next_id`
    numbers the requests.
    """

    def __init__(
        self,
        index: int,
        start: int,
        config: SessionConfig,
        decider: Decider,
        lock: LanguageLock,
        *,
        lead: int,
        read: Callable[[int, int], NDArray[np.float32]],
        next_id: Callable[[], int],
        normalized: bool,
        epsilon: float = EPSILON,
    ) -> None:
        self.index = index
        self.start = start
        self._decider = decider
        self._lock = lock
        self._read = read
        self._next_id = next_id
        self._normalized = normalized
        self._epsilon = epsilon
        self._lead = lead
        least = ms(config.language_least_ms + config.language_hold_ms) + _EVERY * STRIDE + FIELD
        self._stages = [start + self._lead + each for each in (least, max(least, ms(config.language_wait_ms)))]
        self._state = IdentificationState.LISTENING
        self.end = start  # sample up to which the audio was asked about
        self._last = False  # no more audio follows that could decide
        self._answers: dict[int, NDArray[np.float32] | None] = {}  # by request
        self._missing: set[int] = set()  # requests without an answer

    @property
    def decision(self) -> LanguageDecision | None:
        return self._lock.decision if self._state is IdentificationState.DECIDED else None

    def plan(self, *, known: int, closed: int | None, now: float) -> list[Request]:
        """Return the requests that are due. The utterance has at least the audio up to sample `known`; it ends at
        `closed` if the gate has closed."""
        if self._state is not IdentificationState.LISTENING:
            return []
        reached = [stage for stage in self._stages if stage <= known]
        if not reached and closed is None:
            return []
        self.end = reached[0] if reached else known
        self._stages = [stage for stage in self._stages if stage > self.end]
        self._last = not self._stages or self.end == closed
        self._state = IdentificationState.ENCODING
        samples = self._read(self.start, self.end)
        if self._normalized:
            samples = normalize(samples, self._epsilon)
        deadline = now + len(samples) / SAMPLE_RATE / 2
        jobs = [
            Request(self._next_id(), "identify", self.index, samples, deadline, None, language=language)
            for language in self._decider.questions
        ]
        self._answers = dict.fromkeys(job.id for job in jobs)
        self._missing = set(self._answers)
        return jobs

    def wants(self, job: int) -> bool:
        """Whether the answer to a job still matters."""
        return job in self._missing

    def receive(self, job: int, rows: object) -> None:
        """Take the rows of a request that `wants` them, in any order."""
        assert isinstance(rows, np.ndarray)
        self._answers[job] = rows
        self._answered(job)

    def fail(self, job: int) -> None:
        """A request failed: the other languages decide."""
        self._answered(job)

    def _answered(self, job: int) -> None:
        self._missing.discard(job)
        if not self._missing:
            self._judge(self._decider.shares(list(self._answers.values())))

    def _judge(self, shares: NDArray[np.float64]) -> None:
        """Let the lock follow the probabilities through the audio; at the last place it must decide."""
        allowed = self._decider.allowed
        self._lock.begin()
        if not len(shares):  # all requests failed
            shares, self._last = np.full((1, len(allowed)), 1 / len(allowed)), True
        for frame in range(len(shares) - 1, -1, -_EVERY)[::-1]:
            speech_s = (frame * STRIDE + FIELD - self._lead) / SAMPLE_RATE
            row = dict(zip(allowed, shares[frame].tolist(), strict=True))
            if self._lock.receive(speech_s, row) is not None:
                break
            if self._last and frame == len(shares) - 1:
                self._lock.settle(speech_s, row)
        decided = self._lock.decision is not None
        self._state = IdentificationState.DECIDED if decided else IdentificationState.LISTENING
