"""The utterances of a session, one after the other: begun, planned and finished."""

from __future__ import annotations

from itertools import count

from ..audio.loudness import QuietCheck
from ..audio.normalize import EPSILON, Moments
from ..audio.segmenter import Reason, Segmenter
from ..commands.decision import Decision
from ..config import SessionConfig
from ..ctc.vocabulary import Vocabulary
from ..frames import FIELD, STRIDE, ms, seconds
from ..protocol.events import SpeechEnded, SpeechStarted, Warning
from ..requests import CacheHandle, Job
from .decoding import Decoding
from .outbox import Outbox
from .partials import PartialMaker
from .to_events import report_decision, report_final
from .transcript import Transcript
from .utterance import Utterance


class UtteranceLoop:
    """Turns the spans of the segmenter into utterances. It finishes one before it begins the next.

    `normalized` says whether the checkpoint requires zero mean and unit variance, with `epsilon`.
    """

    def __init__(
        self,
        config: SessionConfig,
        vocabulary: Vocabulary,
        decoding: Decoding,
        segmenter: Segmenter,
        outbox: Outbox,
        *,
        normalized: bool,
        epsilon: float = EPSILON,
    ) -> None:
        self.begun = 0  # utterances
        self.jobs: list[Job] = []  # for the driver
        self.released: list[CacheHandle] = []  # for the driver
        self._config = config
        self._vocabulary = vocabulary
        self._decoding = decoding
        self._segmenter = segmenter
        self._outbox = outbox
        self._normalized = normalized
        self._epsilon = epsilon
        self._ids = count(1)
        self._utterance: Utterance | None = None  # the open one
        self._partials: PartialMaker | None = None  # of the open utterance
        self._loudness: Moments | None = None  # of the utterance before
        self._quiet = QuietCheck()
        self._woken: int | None = None  # sample after the wake phrase, until an utterance follows

    def wants(self, job: int) -> bool:
        """Whether the answer to a job still matters."""
        return self._utterance is not None and self._utterance.wants(job)

    def receive(self, job: int, answer: object) -> None:
        """Take the answer to a job that `wants` it, and emit the partials and decisions that follow from it."""
        assert self._utterance is not None
        assert self._partials is not None
        for step in self._utterance.receive(job, answer):
            if (partial := self._partials.make(step, self._outbox.level)) is not None:
                self._outbox.emit(partial, step.end_sample)
            if step.decision is not None:
                self._decide(self._utterance, step.decision, step.end_sample)

    def fail(self, job: int) -> None:
        """Take the failure of a job that `wants` its answer."""
        assert self._utterance is not None
        self._utterance.fail(job)

    def advance(self, now: float) -> bool:
        """Begin the next utterance, or go on with the open one; False when both wait. Deadlines count from `now`."""
        if not self._segmenter.spans:
            return False
        first, utterance = self._segmenter.spans[0], self._utterance
        known = self._segmenter.known(first)
        if utterance is None:
            if known - first.start >= FIELD:
                self._begin(first.start)
                return True
            if first.end is not None:  # too short to make a frame, as the rest after a cut can be
                self._segmenter.spans.popleft()
                return True
            return False
        self.jobs += utterance.plan(
            known=known,
            likely_end=self._segmenter.likely_end(first),
            closed=first.end,
            now=now,
            level=self._outbox.level,
        )
        if utterance.end is None or (transcript := utterance.transcript) is None:
            return False
        self._finish(utterance, transcript, utterance.end, first.reason)
        if utterance.cut is None:
            self._segmenter.spans.popleft()
        else:
            first.start = utterance.end
        return True

    def drop(self) -> None:
        """Drop the open utterance, if any, and release its cache."""
        if self._utterance is not None and self._utterance.cache is not None:
            self.released.append(self._utterance.cache)
        self._utterance = None

    def _begin(self, start: int) -> None:
        self._utterance = Utterance(
            self.begun,
            start,
            self._config,
            self._decoding,
            read=self._segmenter.ring.read,
            next_id=self._ids.__next__,
            normalized=self._normalized,
            epsilon=self._epsilon,
            seed=self._loudness,
            level=self._outbox.level,
            awake=self._woken is not None and start - self._woken <= ms(self._config.wake_ms),
        )
        self._partials = PartialMaker(self._config, self._vocabulary, self._decoding, utterance=self.begun, start=start)
        self._outbox.emit(SpeechStarted(utterance=self.begun, start=seconds(start)), start)
        self.begun += 1

    def _finish(self, utterance: Utterance, transcript: Transcript, end: int, reason: Reason) -> None:
        index, start = utterance.index, utterance.start
        final = report_final(transcript, self._vocabulary, utterance=index, start=start, end=end)
        if final is not None:
            self._outbox.emit(final, end)
        self._woken = None
        if (decision := utterance.decision(transcript)) is not None:
            self._decide(utterance, decision, end)
            if not decision.accepted and decision.woken is not None:
                self._woken = start + decision.woken * STRIDE
        why = reason if utterance.cut is None else utterance.cut.reason
        self._outbox.emit(SpeechEnded(utterance=index, end=seconds(end), reason=why), end)
        # Of this utterance alone: how much audio is there beyond a cut depends on when the encoder answers.
        samples = self._segmenter.ring.read(start, end)
        self._loudness = Moments().plus(samples)
        if final is not None and (hint := self._quiet.receive(samples)) is not None:
            self._outbox.emit(Warning(code="very_quiet", message=hint), end)
        self.drop()

    def _decide(self, utterance: Utterance, decision: Decision, end_sample: int) -> None:
        event = report_decision(decision, utterance=utterance.index, start=utterance.start, end_sample=end_sample)
        self._outbox.emit(event, end_sample)
