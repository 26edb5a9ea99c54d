"""The engine: one thread owns the model and runs the requests of all sessions, earliest deadline first.

The worker takes the most urgent request, fills the batch with the next ones, and runs it while the next batch gathers.
A pipelined encoder gets the next batch before it has answered one. An interruptible one lets live steps run between the
layers of a full pass, if they would be late after it. A request that the encoder refuses fails alone; if a
whole batch fails, the worker tries its halves, so a bad request fails alone then too. Every request gets an answer or
an `EngineError`, also when the worker dies.

Nothing can stop a thread that hangs in the encoder. `replace_stuck_worker` fails its requests and starts another
worker. When the hung thread returns, it sees that it was replaced and ends; until then the caches of its utterances
stay locked, because it may write to them.

Requests that use one cache run in order of arrival. The worker frees released caches between batches.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from ..errors import EngineError
from ..overload import Level
from ..requests import CachedFeatures, CachedStep, CacheHandle
from .batches import BatchCalls, BatchFilling, RunningBatch
from .caches import CacheRegistry
from .counters import EngineCounters
from .encoder import Encoder, Float32
from .interruptions import Interruptions
from .judge import AnswerJudge
from .queue import EncodeJob, RequestQueue, fail
from .search import SearchThread

T = TypeVar("T")

_MAX_HUNG = 3  # hung workers before the engine gives up
_MAX_FAILURES = 3  # in a row, before the engine counts as unhealthy

log = logging.getLogger("xlsr_live.engine")


class _Ended(BaseException):
    """Ends the worker, also from within a pass."""


class _Replaced(_Ended):
    """The engine replaced this thread while it was in the encoder."""


class Engine:
    """Runs from its construction to `close`. All methods are safe in any thread."""

    def __init__(self, encoder: Encoder, *, adaptive: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._judge = AnswerJudge(clock, adaptive=adaptive)
        self._encoder = encoder
        self._calls = BatchCalls(encoder)
        self._clock = clock
        self._queue = RequestQueue()
        self._batch: list[EncodeJob] = []  # unanswered jobs of the worker
        self._filling: list[EncodeJob] = []  # those of the batch that fills; not in `_batch` yet
        self._call_started: float | None = None  # since when the encoder owes an answer
        self._generation = 0  # number of the worker
        self._step_s = 0.0  # duration of the last batch of live steps
        self._caches = CacheRegistry()
        self._failures = 0  # in a row
        self._changed = threading.Condition()
        self._closing = False
        self._searches = SearchThread(clock, self._judge.searched)
        self._thread = self._start()

    @property
    def counters(self) -> EngineCounters:
        """Totals so far; new ones may replace them."""
        return self._judge.counters

    @counters.setter
    def counters(self, counters: EngineCounters) -> None:
        self._judge.counters = counters

    @property
    def alive(self) -> bool:
        """Whether the engine answers requests."""
        return self._thread.is_alive() and not self._closing

    @property
    def healthy(self) -> bool:
        """Whether the encoder works: False after a replaced worker or repeated failures, until the next answer."""
        return self._failures < _MAX_FAILURES

    @property
    def working_s(self) -> float:
        """Seconds for which the encoder has owed its next answer; 0 if it owes none."""
        started = self._call_started
        return 0.0 if started is None else self._clock() - started

    @property
    def searching_s(self) -> float:
        """Duration of the current search so far, in seconds; 0 without one."""
        return self._searches.busy_s

    @property
    def queued(self) -> int:
        """Number of requests that wait for the worker."""
        return self._queue.waiting

    @property
    def level(self) -> Level:
        """The level of service, from late answers and searches; always normal unless `adaptive`."""
        return self._judge.level

    def submit(
        self,
        samples: Float32,
        *,
        deadline: float,
        wanted: Callable[[], bool] = lambda: True,
        reuse: CachedStep | CachedFeatures | None = None,
        language: str | None = None,
    ) -> Future[Float32]:
        """Queue audio, (n,), for encoding; `deadline`, on the engine's clock, orders the queue.

        With a `CachedStep` it is the next step of an utterance, with `CachedFeatures` a full pass that may use the
        features of these steps. Both run after earlier requests with the same cache. `language` is that of a full pass,
        None the default; a step has that of its cache handle.

        The future always completes: with the log-probabilities, with an `EngineError`, or cancelled because `wanted()`
        was false before the request ran.
        """
        job = EncodeJob(deadline, self._clock(), samples, wanted, reuse, Future(), language)
        with self._changed:
            if not self.alive:
                job.future.set_exception(EngineError("the encoder is not running"))
                return job.future
            if reuse is not None and self._caches.is_locked(reuse.cache.number):
                if isinstance(reuse, CachedStep):
                    job.future.set_exception(EngineError("the encoder hangs in an earlier step of this utterance"))
                    return job.future
                job.reuse = reuse = None
            if reuse is not None:
                self._caches.watch(reuse.cache)
            self._queue.put(job)
            self._changed.notify()
        return job.future

    def search(
        self, run: Callable[[], T], *, deadline: float, wanted: Callable[[], bool] = lambda: True
    ) -> Future[T | None]:
        """Decode an answer in the search thread, in order of submission. `deadline` is that of its request.

        The result is None if `wanted()` was false before it ran. Raises `EngineError` if the engine is closed.
        """
        return self._searches.submit(run, deadline, wanted)

    def release(self, handle: CacheHandle) -> None:
        """Cancel the waiting requests of an utterance and free its cache."""
        with self._changed:
            if self._caches.release(handle):
                for job in self._queue.waiting_for(handle.number):
                    job.future.cancel()
                self._changed.notify()

    def replace_stuck_worker(self, patience_s: float) -> bool:
        """Replace the worker if its encoder call takes longer than `patience_s` seconds; True if replaced.

        Its requests get an `EngineError`. If too many workers hang, the engine closes instead.
        """
        with self._changed:
            if self._closing or self.working_s <= patience_s:
                return False
            caches = {job.cache for job in self._batch if job.cache is not None}
            self._caches.lock(self._generation, caches)
            stuck, self._batch, self._call_started = self._batch, [], None
            for number in caches:
                stuck += self._queue.detach(number)
            self._generation += 1
            self._failures = _MAX_FAILURES
            self.counters.restarts += 1
            self.counters.failures += len(stuck)
            gives_up = self._caches.hung > _MAX_HUNG
            if not gives_up:
                self._thread = self._start()
        action = "giving up" if gives_up else "worker replaced"
        log.error("the encoder has not answered for %g s; %s", patience_s, action)
        fail(stuck, f"the encoder did not answer within {patience_s:g} s")
        if gives_up:
            self._fail_all()
        return True

    def close(self, timeout: float | None = None) -> None:
        """Finish the current batch and the searches, fail the waiting requests, stop the threads.

        Waits at most `timeout` seconds for the worker.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._searches.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    # ── the worker's thread ──

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(self._generation,), name="xlsr-engine", daemon=True)
        thread.start()
        return thread

    def _run(self, generation: int) -> None:
        running: deque[RunningBatch] = deque()
        try:
            while self._work(running, generation):
                pass
        except _Replaced:
            log.warning("a replaced worker has returned; its answers are dropped")
            for batch in running:
                with suppress(Exception):
                    batch.answers()  # the encoder keeps what it lends to a batch until then
        except BaseException:
            log.exception("the encoder's worker died")
        with self._changed:
            if self._caches.unlock(generation):
                self._changed.notify()
                return
        self._fail_all()

    def _work(self, running: deque[RunningBatch], generation: int) -> bool:
        """Begin a batch, answer one, or both; False on close."""
        jobs = self._next_batch(generation, wait=not running)
        if jobs:
            running.append(self._begin(jobs, generation))
        if running and (not jobs or len(running) >= self._calls.depth):
            self._finish(running.popleft(), running, generation)
            return True
        return jobs is not None

    def _fail_all(self) -> None:
        with self._changed:
            self._closing = True
            unanswered = [*self._batch, *self._filling, *self._queue.clear()]
            self._batch, self._filling = [], []
        fail(unanswered, "the encoder was stopped before it answered this request")

    def _next_batch(self, generation: int, *, wait: bool) -> list[EncodeJob] | None:
        """The next requests to run; None on close. Without `wait`, none if none is ready."""
        with self._changed:
            while not self._closing:
                if generation != self._generation:
                    raise _Replaced
                jobs = self._take(self._queue.fill)
                if jobs or not wait:
                    return jobs
                if not self.queued:
                    self._changed.wait()
            return None

    def _take(self, fill: Callable[..., int]) -> list[EncodeJob]:
        """Free released caches, then move the next requests by this method of the queue to `_batch`; under the lock."""
        busy = {job.cache for job in self._batch if job.cache is not None}
        for number in self._caches.to_free(busy):
            self._encoder.release(number)
        filling = BatchFilling(self._encoder, self._filling)
        self.counters.withdrawn += fill(self._filling, self._encoder.max_batch, filling.fits, busy)
        jobs, self._filling = self._filling, []
        self._batch += jobs
        return jobs

    def _interrupt(self, interruptions: Interruptions, generation: int, share: float) -> None:
        """Between the layers of a pass, after this share of them: run live steps that cannot wait for its end."""
        now = self._clock()
        before = interruptions.before(now, share)
        if before is None:
            return
        with self._changed:
            if generation != self._generation:
                raise _Replaced
            if self._closing:
                return
            try:
                jobs = self._take(partial(self._queue.fill_steps, before + self._step_s))
            except Exception as error:
                raise _Ended from error
        if jobs:
            self._finish(self._begin(jobs, generation), deque(), generation)
            interruptions.spent_s += self._clock() - now

    def _begin(self, jobs: list[EncodeJob], generation: int) -> RunningBatch:
        now = self._clock()
        with self._changed:
            if generation != self._generation:
                raise _Replaced
            if self._call_started is None:
                self._call_started = now
        pause = partial(self._interrupt, Interruptions(), generation)
        return RunningBatch(jobs, self._calls.start(jobs, pause), now)

    def _finish(self, batch: RunningBatch, running: deque[RunningBatch], generation: int) -> None:
        jobs = batch.jobs
        try:
            answers = batch.answers()
        except Exception as error:
            if len(jobs) > 1:
                self._leave(generation, [])
                while running:  # the encoder keeps the answers of two batches at most: halves would overwrite them
                    self._finish(running.popleft(), running, generation)
                half = len(jobs) // 2
                for part in (jobs[:half], jobs[half:]):
                    self._finish(self._begin(part, generation), running, generation)
                return
            if not isinstance(error, EngineError):
                log.exception("the model failed")
                error = EngineError(f"the model failed ({type(error).__name__}); the log on its machine has details")
            answers = [error]
        worked_s = self._leave(generation, jobs)
        now = self._clock()
        if isinstance(jobs[0].reuse, CachedStep):
            self._step_s = now - batch.begun
        answered = [(job, rows) for job, rows in zip(jobs, answers, strict=True) if not isinstance(rows, EngineError)]
        self._failures = 0 if answered else self._failures + 1
        self.counters.failures += len(jobs) - len(answered)
        if answered:
            self.counters.busy_s += worked_s
            self.counters.batch_sizes.observe(len(answered))
        for job, rows in zip(jobs, answers, strict=True):
            if isinstance(rows, EngineError):
                log.warning("a request of %d samples failed: %s", len(job.samples), rows)
                fail([job], str(rows))
            else:
                self._judge.answered(job, now)
                job.future.set_result(rows)

    def _leave(self, generation: int, jobs: list[EncodeJob]) -> float:
        """Hand the jobs to the caller, who answers them; the time that the encoder took for them.

        The engine drops its references: an idle worker must not keep the last sessions and their audio alive.
        """
        with self._changed:
            if generation != self._generation:
                raise _Replaced
            gone, worked_s, now = set(jobs), self.working_s, self._clock()
            self._batch = [job for job in self._batch if job not in gone]
            self._call_started = now if self._batch else None
            return worked_s
