"""The thread that translates, for all sessions of a recognizer. Its queue is bounded, and every job gets an outcome.

The job that is due first comes first, with others of the same translator and of similar length in its batch. A job that
is overdue, and those that find the queue full of more urgent ones, are dropped. A batch that fails runs again one by
one, so one utterance cannot fail others. A call that hangs is abandoned after `patience_s`: its jobs fail, and the
next call has another thread.
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
from .translator import Segment, Translator

LIMIT: Final = 256  # jobs that wait
ALIKE: Final = 2.0  # most ratio of lengths in one batch

log = logging.getLogger("xlsr_live.translation")


class Missing(NamedTuple):
    """The outcome of a job without a translation."""

    kind: Literal["late", "failed", "dropped"]
    why: str


Outcome = str | Missing


@dataclass(eq=False)
class TranslationJob:
    """`done` is called once, in a thread of the service; not if nobody `wanted` the job any more."""

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
        patience_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.translators = tuple(translators)
        self.max_lag_s = max_lag_s
        self.counters = TranslationCounters()
        self.clock = clock
        self._patience_s = max_lag_s / 2 if patience_s is None else patience_s  # then others are not late yet
        self._limit = limit
        self._waiting: list[TranslationJob] = []
        self._changed = threading.Condition()
        self._closed = False
        self._caller = _Caller()
        self._thread = threading.Thread(target=self._work, name="translation", daemon=True)
        self._thread.start()

    def submit(self, job: TranslationJob) -> None:
        with self._changed:
            self._waiting.append(job)
            full = self._closed or len(self._waiting) > self._limit
            lost = max(self._waiting, key=lambda each: each.urgency) if full else None
            if lost is not None:
                self._waiting.remove(lost)
            self._changed.notify()
        if lost is not None:
            lost.done(Missing("dropped", "too many utterances wait"))

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
            job.done(Missing("failed", "the recognizer is closed"))
        self._caller.stop()
        for translator in self.translators:
            translator.close()

    # ── the thread ──

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            overdue, batch = taken
            for job in overdue:
                self._finish(job, Missing("late", f"it would be later than {self.max_lag_s:g} s"))
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
        try:
            texts = self._call(batch)
        except TimeoutError:
            self.counters.hung += 1
            self._caller = _Caller()
            log.warning("%s does not answer; its call is abandoned", batch[0].translator.name)
            why = f"the translator does not answer within {self._patience_s:g} s"
            for job in batch:
                self._finish(job, Missing("failed", why))
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    self._run([job])
                return
            log.warning("%s failed: %s", batch[0].translator.name, error)
            self._finish(batch[0], Missing("failed", str(error) or type(error).__name__))
        else:
            for job, text in zip(batch, texts, strict=True):
                late = job.due < self.clock()
                self._finish(job, Missing("late", f"it took longer than {self.max_lag_s:g} s") if late else text)

    def _call(self, batch: list[TranslationJob]) -> list[str]:
        translator, segments = batch[0].translator, [job.segment for job in batch]
        begun = time.monotonic()
        try:
            texts = self._caller.call(lambda: translator.translate(segments), self._patience_s)
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


class _Caller:
    """Runs one call at a time in a thread of its own, so that a call that hangs can be left behind."""

    def __init__(self) -> None:
        self._call: Callable[[], list[str]] | None = None
        self._result: list[str] | BaseException = []
        self._given, self._answered = threading.Semaphore(0), threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def call(self, call: Callable[[], list[str]], timeout_s: float) -> list[str]:
        """Raises what the call raises, and `TimeoutError`; then this caller can be used no more."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="translator", daemon=True)
            self._thread.start()
        self._call = call
        self._given.release()
        if not self._answered.acquire(timeout=timeout_s):
            self.stop()  # once the call returns, if it ever does
            raise TimeoutError
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def stop(self) -> None:
        self._call = None
        self._given.release()

    def _work(self) -> None:
        while True:
            self._given.acquire()
            if (call := self._call) is None:
                return
            try:
                self._result = call()
            except BaseException as error:  # also a MemoryError: the caller reports it
                self._result = error
            self._answered.release()
