"""The thread that translates, for all sessions of a recognizer. Its queue is bounded, and every job gets an outcome.

The most urgent job comes first. Its batch has other jobs of the same translator with similar length. The service drops
overdue jobs, and the least urgent job of a full queue. Jobs without a due time are never dropped; sessions bound their
number. A batch that fails runs again one by one, so one utterance cannot fail others.

The service abandons a call that takes longer than `call_timeout_s`: its jobs fail, and the next call has another
thread. A translator with `MOST_ABANDONED` calls that still run gets no more calls: its jobs fail at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal, NamedTuple

from .counters import TranslationCounters
from .translator import Segment, TranslationError, Translator

LIMIT: Final = 256  # waiting jobs with a due time
MOST_ABANDONED: Final = 4  # calls of one translator that still run
ALIKE: Final = 2.0  # most ratio of lengths in one batch

log = logging.getLogger("xlsr_live.translation")


class NoTranslation(NamedTuple):
    """The outcome of a job that gets no translation."""

    kind: Literal["late", "failed", "dropped"]
    why: str


Outcome = str | NoTranslation
CLOSED: Final = NoTranslation("failed", "the recognizer is closed")


@dataclass(eq=False)
class TranslationJob:
    """The service calls `done` once, in any thread. It drops a job that is no longer `wanted` without a call."""

    translator: Translator
    segment: Segment
    due: float  # on the service's clock; infinite for a job that is never late
    done: Callable[[Outcome], None]
    wanted: Callable[[], bool] = lambda: True
    number: int = field(default_factory=count().__next__, init=False)

    @property
    def urgency(self) -> tuple[float, int]:
        return self.due, self.number


class TranslationService:
    """Takes jobs from any thread. Owns its translators."""

    def __init__(
        self,
        translators: Sequence[Translator],
        *,
        max_lag_s: float = 10.0,
        limit: int = LIMIT,
        call_timeout_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.translators = tuple(translators)
        self.max_lag_s = max_lag_s
        self.counters = TranslationCounters()
        self.clock = clock
        # By default half the lag: then other jobs are not late yet.
        self._call_timeout_s = max_lag_s / 2 if call_timeout_s is None else call_timeout_s
        self._limit = limit
        self._waiting: list[TranslationJob] = []
        self._changed = threading.Condition()
        self._closed = False
        self._caller = _Caller()
        self._abandoned: dict[Translator, list[_Caller]] = {}
        self._thread = threading.Thread(target=self._work, name="translation", daemon=True)
        self._thread.start()

    def submit(self, job: TranslationJob) -> None:
        with self._changed:
            closed, lost = self._closed, None
            if not closed:
                self._waiting.append(job)
                if len(due := [each for each in self._waiting if each.due != float("inf")]) > self._limit:
                    lost = max(due, key=lambda each: each.urgency)
                    self._waiting.remove(lost)
                self._changed.notify()
        if closed:
            job.done(CLOSED)
        elif lost is not None:
            lost.done(NoTranslation("dropped", "too many utterances wait"))

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def close(self) -> None:
        """Fail all waiting jobs and release the translators; a call under way is abandoned."""
        with self._changed:
            self._closed = True
            jobs, self._waiting = self._waiting, []
            self._changed.notify()
        for job in jobs:
            self._finish(job, CLOSED)
        self._caller.stop()
        for translator in self.translators:
            translator.close()

    # ── the thread ──

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            overdue, batch = taken
            for job in overdue:
                self._finish(job, NoTranslation("late", f"it would be later than {self.max_lag_s:g} s"))
            if batch:
                self._run(batch)

    def _take(self) -> tuple[list[TranslationJob], list[TranslationJob]] | None:
        """Jobs that are overdue, and the next batch; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            now = self.clock()
            wanted = sorted((job for job in self._waiting if job.wanted()), key=lambda job: job.urgency)
            overdue = [job for job in wanted if job.due < now]
            rest = wanted[len(overdue) :]
            batch = _batch(rest)
            self._waiting = [job for job in rest if job not in batch]
            return overdue, batch

    def _run(self, batch: list[TranslationJob]) -> None:
        translator = batch[0].translator
        why = f"the translator does not answer within {self._call_timeout_s:g} s"
        try:
            self._abandoned[translator] = [each for each in self._abandoned.get(translator, ()) if each.running]
            if len(self._abandoned[translator]) >= MOST_ABANDONED:
                raise TranslationError(why)
            texts = self._call(batch)
        except _Hangs:
            self.counters.hung += 1
            self._abandoned[translator].append(self._caller)
            self._caller = _Caller()
            log.warning("%s does not answer; its call is abandoned", translator.name)
            for job in batch:
                self._finish(job, NoTranslation("failed", why))
        except BaseException as error:  # a panic in a tokenizer's Rust code is no Exception
            if len(batch) > 1:
                for job in batch:
                    self._run([job])
                return
            log.warning("%s failed: %s", translator.name, error)
            self._finish(batch[0], NoTranslation("failed", str(error) or type(error).__name__))
        else:
            for job, text in zip(batch, texts, strict=True):
                self._finish(job, self._outcome(job, text))

    def _outcome(self, job: TranslationJob, text: str) -> Outcome:
        if job.due < self.clock():
            return NoTranslation("late", f"it took longer than {self.max_lag_s:g} s")
        return text or NoTranslation("failed", "the translator gives no text")

    def _call(self, batch: list[TranslationJob]) -> list[str]:
        translator, segments = batch[0].translator, [job.segment for job in batch]
        begun = time.monotonic()
        try:
            texts = self._caller.call(lambda: translator.translate(segments), self._call_timeout_s)
        finally:
            self.counters.busy_s += time.monotonic() - begun
        if len(texts) != len(batch):
            raise ValueError(f"{translator.name} gives {len(texts)} texts for {len(batch)} utterances")
        return texts

    def _finish(self, job: TranslationJob, outcome: Outcome) -> None:
        try:
            job.done(outcome)
        except Exception:  # of one session: the others need this thread
            log.exception("a translation could not be delivered")


def _batch(jobs: Sequence[TranslationJob]) -> list[TranslationJob]:
    """The first job, and those that fit into a batch with it; `jobs` are in their order."""
    if not jobs:
        return []
    first = jobs[0]
    low, high = first.segment.size / ALIKE, first.segment.size * ALIKE
    fitting = [job for job in jobs if job.translator is first.translator and low <= job.segment.size <= high]
    return fitting[: first.translator.max_batch]


class _Hangs(Exception):
    """A call takes too long."""


class _Caller:
    """Runs one call at a time in its own thread, so the service can abandon a call that hangs."""

    def __init__(self) -> None:
        self._call: Callable[[], list[str]] | None = None
        self._result: list[str] | BaseException = []
        self._given, self._answered = threading.Semaphore(0), threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def call(self, call: Callable[[], list[str]], timeout_s: float) -> list[str]:
        """Raises the errors of the call, and `_Hangs`; after that one, use another caller."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="translator", daemon=True)
            self._thread.start()
        self._call = call
        self._given.release()
        if not self._answered.acquire(timeout=timeout_s):
            self.stop()  # once the call returns, if it ever does
            raise _Hangs
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """End the thread after its present call."""
        self._call = None
        self._given.release()

    def _work(self) -> None:
        while True:
            self._given.acquire()
            if (call := self._call) is None:
                return
            try:
                self._result = call()
            except BaseException as error:  # `call` raises it
                self._result = error
            self._answered.release()
