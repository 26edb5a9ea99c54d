"""Identifies the language of an utterance at its beginning, once, before any of its text is shown.

It encodes the audio up to the least speech with which the lock can be certain. If the lock is not certain then, it
encodes again, up to the end of the time that partials may wait, and decides. Both places are earlier if the utterance
ends first. So the decision depends on the audio alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..audio.normalize import EPSILON, normalize
from ..config import SessionConfig
from ..frames import FIELD, SAMPLE_RATE, STRIDE, ms
from ..requests import MULTIPLE, Request
from .deciders import Decider
from .language_lock import LanguageDecision, LanguageLock

_EVERY: Final = 5  # frames between two looks at the probabilities


class Identification:
    """For an utterance that begins at sample `start`; its speech begins at most `lead` samples later.

    `next_id` numbers the requests.
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
        self.decision: LanguageDecision | None = None
        self.end = start  # of the encoded audio, in samples
        self._last = False  # no longer audio follows: the lock must decide
        self._answers: dict[int, NDArray[np.float32] | None] = {}  # by request
        self._missing: set[int] = set()  # requests without an answer

    def plan(self, *, known: int, closed: int | None, now: float) -> list[Request]:
        """Return the requests that are due, one for each question of the decider.

        The utterance has at least the audio up to sample `known`; it ends at `closed` if the gate has closed.
        """
        if self._missing or self.decision is not None:
            return []
        reached = [stage for stage in self._stages if stage <= known]
        if not reached and closed is None:
            return []
        self.end = reached[0] if reached else known
        self._stages = [stage for stage in self._stages if stage > self.end]
        self._last = not self._stages or self.end == closed
        samples = self._read(self.start, self.end)
        normalized = samples
        if self._normalized and self._decider.questions != (MULTIPLE,):
            normalized = normalize(samples, self._epsilon)
        deadline = now + len(samples) / SAMPLE_RATE / 2
        jobs: list[Request] = []
        for language in self._decider.questions:
            audio = samples if language == MULTIPLE else normalized
            jobs.append(Request(self._next_id(), "identify", self.index, audio, deadline, None, language=language))
        self._answers = dict.fromkeys(job.id for job in jobs)
        self._missing = set(self._answers)
        return jobs

    @property
    def busy(self) -> bool:
        """Whether requests lack an answer."""
        return bool(self._missing)

    def wants(self, job: int) -> bool:
        """Whether the answer to a job still matters."""
        return job in self._missing

    def receive(self, job: int, rows: object) -> None:
        """Take the rows of a request that `wants` them, in any order."""
        assert isinstance(rows, np.ndarray)
        self._answers[job] = rows
        self._answered(job)

    def fail(self, job: int) -> None:
        """A request failed: the others decide."""
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
        self.decision = self._lock.decision
