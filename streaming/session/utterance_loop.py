"""The utterances of a session, one after the other: begun, planned and finished."""

from __future__ import annotations

from itertools import count

import msgspec

from ..audio.loudness import QuietCheck
from ..audio.normalize import EPSILON, Moments
from ..audio.pauses import PauseEvidence
from ..audio.segmenter import Reason, Segmenter, Span
from ..audio.vad import FRAME
from ..captions.punctuation import Punctuate, punctuate_pauses
from ..commands.decision import Decision
from ..config import Origin, SessionConfig
from ..frames import FIELD, SAMPLE_RATE, STRIDE, ms, seconds
from ..languages import UNDETERMINED
from ..protocol.events import LanguageIdentified, SpeechEnded, SpeechStarted, Warning
from ..requests import CacheHandle, Job
from .decoding import Decoding
from .decodings import Choice, Decodings
from .display_text import DisplayText
from .identification import Identification
from .language_lock import make_lock
from .outbox import Outbox
from .partials import PartialMaker
from .to_events import report_decision, report_final
from .transcript import Transcript
from .utterance import Utterance


class UtteranceLoop:
    """Turns the spans of the segmenter into utterances. It finishes one before it begins the next.

    `normalized` says whether the checkpoint requires zero mean and unit variance, with `epsilon`. `origin` is where the
    session began elsewhere.
    """

    def __init__(
        self,
        config: SessionConfig,
        decodings: Decodings,
        segmenter: Segmenter,
        outbox: Outbox,
        origin: Origin,
        *,
        normalized: bool,
        epsilon: float = EPSILON,
        punctuate: Punctuate = punctuate_pauses,
    ) -> None:
        self.begun = origin.utterance  # utterances
        self.jobs: list[Job] = []  # for the driver
        self.released: list[CacheHandle] = []  # for the driver
        self._config = config
        self._decodings = decodings
        self._segmenter = segmenter
        self._outbox = outbox
        self._normalized = normalized
        self._epsilon = epsilon
        self._ids = count(1)
        self._display = DisplayText(punctuate, self._ids.__next__)
        self._identification: Identification | None = None  # of the open utterance, until its language is certain
        self._choice: Choice | None = None  # its languages, meanwhile
        # Samples from an utterance's start to its first speech, plus two frames of the detector: a choice of language
        # before that place applies to the utterance.
        self._lead = segmenter.lead and segmenter.lead + 2 * FRAME
        self._lock = make_lock(config)
        self._lock.language = origin.language
        self._utterance: Utterance | None = None  # the open one
        self._partials: PartialMaker | None = None  # of the open utterance
        self._loudness: Moments | None = None  # of the utterance before
        self._quiet = QuietCheck() if not origin.utterance else None  # once in a session
        # Sample after the wake phrase, until an utterance follows.
        self._woken = None if origin.woken is None else round(origin.woken * SAMPLE_RATE)
        # Number of an utterance whose command was sent before a move.
        self._decided = origin.utterance if origin.decided else None

    def wants(self, job: int) -> bool:
        """Whether the answer to a job still matters."""
        owner = self._identification or self._utterance
        return owner is not None and (owner.wants(job) or self._display.wants(job))

    def receive(self, job: int, answer: object) -> None:
        """Take the answer to a job that `wants` it, and emit the partials and decisions that follow from it."""
        if self._display.wants(job):
            self._display.receive(answer)
            return
        if self._identification is not None:
            self._identification.receive(job, answer)
            return
        assert self._utterance is not None
        assert self._partials is not None
        for step in self._utterance.receive(job, answer):
            if (partial := self._partials.make(step, self._outbox.level)) is not None:
                self._outbox.emit(partial, step.end_sample)
            if step.decision is not None:
                self._decide(self._utterance, step.decision, step.end_sample)

    def fail(self, job: int) -> None:
        """Take the failure of a job that `wants` its answer."""
        if self._display.wants(job):
            self._display.fail()
            return
        owner = self._identification or self._utterance
        assert owner is not None
        owner.fail(job)

    def advance(self, now: float) -> bool:
        """Begin the next utterance, or go on with the open one; False when both wait. Deadlines count from `now`."""
        if not self._segmenter.spans:
            return False
        first, utterance = self._segmenter.spans[0], self._utterance
        known = self._segmenter.known(first)
        paused = first.end is None and self._segmenter.paused
        if self._identification is not None:
            return self._identify(self._identification, first, known, now, paused=paused)
        if utterance is None:
            spoken = first.start + max(FIELD, self._lead)
            if known >= spoken or ((first.end is not None or paused) and known - first.start >= FIELD):
                self._open(first.start, self._decodings.at(min(spoken, known)))
                return True
            if first.end is not None:  # too short to make a frame, as the rest after a cut can be
                self._segmenter.spans.popleft()
                return True
            if paused:
                self._segmenter.decide(PauseEvidence())
            return paused
        self.jobs += utterance.plan(
            known=known,
            likely_end=self._segmenter.likely_end(first),
            closed=first.end,
            now=now,
            level=self._outbox.level,
            paused=paused,
        )
        if paused and (evidence := utterance.evidence) is not None:
            self._segmenter.decide(evidence)
            return True
        if utterance.end is None or (transcript := utterance.transcript) is None:
            return False
        if not self._finish(utterance, transcript, utterance.end, first.reason, now):
            return False
        if utterance.cut is None:
            self._segmenter.spans.popleft()
        else:
            first.start = utterance.end
        return True

    def drop(self) -> None:
        """Drop the open utterance, if any, and release its cache."""
        if self._utterance is not None and self._utterance.cache is not None:
            self.released.append(self._utterance.cache)
        self._utterance = self._identification = self._choice = None

    def _open(self, start: int, choice: Choice) -> None:
        """Begin the next utterance: in the only language, or with its identification."""
        self._decodings.forget(start)
        self._outbox.emit(SpeechStarted(utterance=self.begun, start=seconds(start)), start)
        self.begun += 1
        if choice.only is not None:
            self._begin(start, choice.only)
            return
        self._choice = choice
        decider = choice.decider()
        self._lock.restrict(decider.allowed)
        self._identification = Identification(
            self.begun - 1,
            start,
            self._config,
            decider,
            self._lock,
            lead=self._segmenter.lead,
            read=self._segmenter.ring.read,
            next_id=self._ids.__next__,
            normalized=self._normalized,
            epsilon=self._epsilon,
        )

    def _identify(self, identification: Identification, span: Span, known: int, now: float, *, paused: bool) -> bool:
        """Continue the identification; False while it waits for audio or answers."""
        if identification.decision is None:
            self.jobs += identification.plan(known=known, closed=span.end, now=now)
            if idle := paused and not identification.busy:  # the language is unknown, so there is no evidence
                self._segmenter.decide(PauseEvidence())
            return idle
        language, probability = identification.decision
        assert self._choice is not None
        decoding = self._choice.decodings[language]
        shown = language if probability >= self._config.language_floor else UNDETERMINED
        event = LanguageIdentified(
            utterance=identification.index,
            language=shown,
            probability=round(probability, 3),
            start=seconds(identification.start),
        )
        self._outbox.emit(event, identification.end)
        self._identification = self._choice = None
        self._begin(identification.start, decoding)
        return True

    def _begin(self, start: int, decoding: Decoding) -> None:
        index = self.begun - 1
        self._utterance = Utterance(
            index,
            start,
            self._config,
            decoding,
            read=self._segmenter.ring.read,
            next_id=self._ids.__next__,
            normalized=self._normalized,
            epsilon=self._epsilon,
            seed=self._loudness or self._segmenter.loudness,
            level=self._outbox.level,
            awake=self._woken is not None and start - self._woken <= ms(self._config.wake_ms),
        )
        self._partials = PartialMaker(self._config, decoding, utterance=index, start=start)

    def _finish(self, utterance: Utterance, transcript: Transcript, end: int, reason: Reason, now: float) -> bool:
        """Emit the last events of an utterance; False while the `display_text` of its final is missing."""
        index, start = utterance.index, utterance.start
        reason = reason if utterance.cut is None else utterance.cut.reason
        final = report_final(transcript, utterance.decoding, utterance=index, start=start, end=end)
        if final is not None and self._config.punctuation:
            self.jobs += self._display.plan(final.text, ended=reason != "length", utterance=index, now=now)
            if (shown := self._display.take()) is None:
                return False
            final = msgspec.structs.replace(final, display_text=shown)
        if final is not None:
            self._outbox.emit(final, end)
        self._woken = None
        if (decision := utterance.decision(transcript)) is not None:
            self._decide(utterance, decision, end)
            if not decision.accepted and decision.woken is not None:
                self._woken = start + decision.woken * STRIDE
        self._outbox.emit(SpeechEnded(utterance=index, end=seconds(end), reason=reason), end)
        # Of this utterance alone: how much audio is there beyond a cut depends on when the encoder answers.
        samples = self._segmenter.ring.read(start, end)
        self._loudness = Moments().plus(samples)
        if final is not None and self._quiet and (hint := self._quiet.receive(samples)) is not None:
            self._outbox.emit(Warning(code="very_quiet", message=hint), end)
        self.drop()
        return True

    def _decide(self, utterance: Utterance, decision: Decision, end_sample: int) -> None:
        if utterance.index == self._decided:
            return
        event = report_decision(decision, utterance=utterance.index, start=utterance.start, end_sample=end_sample)
        self._outbox.emit(event, end_sample)
