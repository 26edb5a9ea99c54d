"""The engine as a front process sees it: the same calls, answered by the engine process.

Requests collect while a message is on its way; then one message takes all of them. When the engine process ends, every
request that waits gets an `EngineError`, and so does every new one until another engine process answers. Searches run
in this process, in a thread of their own.

A request that nobody wants any more is withdrawn within `SWEEP_S`; if the engine has begun it, its answer is dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import count
from multiprocessing import AuthenticationError
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...streaming.engine.caches import CacheRegistry
from ...streaming.engine.counters import EngineCounters
from ...streaming.engine.judge import AnswerJudge
from ...streaming.engine.queue import EncodeJob
from ...streaming.engine.search import SearchThread
from ...streaming.errors import EngineError
from ...streaming.overload import Level
from ...streaming.requests import CachedFeatures, CachedStep, CacheHandle
from .link import ProcessLink, connect, start_thread
from .messages import (
    EngineStatus,
    FrontMessage,
    ModelDescription,
    SentAnswer,
    SentArray,
    SentCache,
    SentRequest,
    from_engine,
    sent_cache,
    sent_window,
    to_engine,
)

Float32 = NDArray[np.float32]
T = TypeVar("T")

SWEEP_S: Final = 0.1
RETRY_S: Final = 0.1  # between attempts to reach the engine process
STALE_S: Final = 2.0  # a status that is older counts as work without an answer
RESTARTING: Final = "the engine process has stopped and is started again; try again later"
ENDED: Final = "the engine process ended before it answered this request"

log = logging.getLogger("xlsr_live.engine")


class RemoteEngine:
    """See `Engine`. Runs from its construction to `close`; the engine process may come later."""

    def __init__(self, address: str, *, adaptive: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.description: Future[ModelDescription] = Future()  # of the first engine process
        self._address = address
        self._clock = clock
        self._judge = AnswerJudge(clock, adaptive=adaptive)
        self._searches = SearchThread(clock, self._judge.searched)
        self._link: ProcessLink | None = None
        self._status: EngineStatus | None = None
        self._status_at = 0.0
        self._numbers = count(1)
        self._waiting: dict[int, EncodeJob] = {}  # unanswered requests
        self._unsent: list[int] = []  # of these
        self._withdrawn: list[int] = []
        self._swept = 0.0  # time of the last search for unwanted requests
        self._caches = CacheRegistry()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._threads = [start_thread(self._receive, "xlsr-receive"), start_thread(self._send, "xlsr-send")]

    @property
    def counters(self) -> EngineCounters:
        """Totals of this front; batches, restarts and the time in the encoder are those of the engine process."""
        return self._judge.counters

    @counters.setter
    def counters(self, counters: EngineCounters) -> None:
        self._judge.counters = counters

    @property
    def alive(self) -> bool:
        """Whether it is open; the engine process may be starting again."""
        return not self._closing.is_set()

    @property
    def healthy(self) -> bool:
        """Whether the engine process answers and its encoder works."""
        status = self._status
        return self._link is not None and (status is None or (status.alive and status.healthy))

    @property
    def working_s(self) -> float:
        """Seconds for which the encoder has owed its next answer, or the engine process a sign of life."""
        status, age = self._status, self._clock() - self._status_at
        return 0.0 if status is None else status.working_s + (age if age > STALE_S else 0.0)

    @property
    def searching_s(self) -> float:
        return self._searches.busy_s

    @property
    def queued(self) -> int:
        """Requests of all fronts that wait in the engine process."""
        return 0 if self._status is None else self._status.queued

    @property
    def level(self) -> Level:
        """The level of service of this front, from its late answers and searches."""
        return self._judge.level

    @property
    def memory(self) -> dict[str, int]:
        """GPU memory of the engine process, bytes by kind."""
        return {} if self._status is None else self._status.memory

    def submit(
        self,
        samples: Float32,
        *,
        deadline: float,
        wanted: Callable[[], bool] = lambda: True,
        reuse: CachedStep | CachedFeatures | None = None,
        language: str | None = None,
    ) -> Future[Float32]:
        job = EncodeJob(deadline, self._clock(), samples, wanted, reuse, Future(), language)
        with self._changed:
            if self._link is None:
                job.future.set_exception(EngineError(RESTARTING))
                return job.future
            if reuse is not None:
                self._caches.watch(reuse.cache)
            number = next(self._numbers)
            self._waiting[number] = job
            self._unsent.append(number)
            self._changed.notify()
        return job.future

    def search(
        self, run: Callable[[], T], *, deadline: float, wanted: Callable[[], bool] = lambda: True
    ) -> Future[T | None]:
        return self._searches.submit(run, deadline, wanted)

    def release(self, handle: CacheHandle) -> None:
        with self._changed:
            if self._caches.release(handle):
                self._withdraw(number for number, job in self._waiting.items() if job.cache == handle.number)
                self._changed.notify()

    def replace_stuck_worker(self, patience_s: float) -> bool:
        """False: the engine process watches its own worker."""
        return False

    def close(self, timeout: float | None = None) -> None:
        with self._changed:
            self._closing.set()
            link = self._link
            self._changed.notify()
        if link is not None:
            link.hang_up()
        self._searches.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)

    # ── the receiving thread ──

    def _receive(self) -> None:
        told: object = None
        while not self._closing.is_set():
            try:
                link, description = connect(self._address)
            except (OSError, EOFError, AuthenticationError) as error:
                problem = _problem(error)
                if problem is not None and problem != told:
                    log.error("no link to the engine process: %s", error)
                told = problem
                self._closing.wait(RETRY_S)
                continue
            told = None
            with self._changed:
                self._link, self._status = link, None
            if not self.description.done():
                self.description.set_result(description)
            try:
                while True:
                    self._take(link)
            except (OSError, EOFError):
                self._lose(link)
        if not self.description.done():
            self.description.set_exception(EngineError("closed before an engine process answered"))

    def _take(self, link: ProcessLink) -> None:
        message = from_engine.decode(link.receive())
        now = self._clock()
        if message.status is not None:
            self._status, self._status_at = message.status, now
            counters = self.counters
            counters.restarts, counters.busy_s = message.status.restarts, message.status.busy_s
            counters.batch_sizes.counts = message.status.batch_sizes
            counters.batch_sizes.total = message.status.batched
        for answer in message.answers:
            rows = None if answer.rows is None else link.receive_array(answer.rows)
            with self._changed:
                job = self._waiting.pop(answer.number, None)
            if job is not None:
                self._answer(job, answer, rows, now)

    def _answer(self, job: EncodeJob, answer: SentAnswer, rows: Float32 | None, now: float) -> None:
        if rows is not None and job.future.set_running_or_notify_cancel():
            self._judge.answered(job, now)
            job.future.set_result(rows.reshape(-1, answer.width))
        elif rows is None and answer.error:
            self.counters.failures += 1
            _fail([job], answer.error)
        else:
            job.future.cancel()

    def _lose(self, link: ProcessLink) -> None:
        with self._changed:
            self._link = self._status = None
            jobs = list(self._waiting.values())
            self._waiting.clear()
            self._unsent, self._withdrawn = [], []
        link.close()
        self.counters.failures += len(jobs)
        if not self._closing.is_set():
            log.error("the engine process has ended; %d requests have failed", len(jobs))
        _fail(jobs, ENDED)

    # ── the sending thread ──

    def _send(self) -> None:
        while True:
            with self._changed:
                if not self._has_news:
                    self._changed.wait(SWEEP_S if self._waiting or len(self._caches) else None)
                if self._closing.is_set():
                    return
                link = self._link
                self._sweep()
                jobs = [(number, self._waiting[number]) for number in self._unsent if number in self._waiting]
                withdrawn, self._withdrawn, self._unsent = self._withdrawn, [], []
                released = list(self._caches.to_free())
            if link is None:
                continue
            try:
                self._send_all(link, jobs, withdrawn, released)
            except (OSError, EOFError):  # the receiving thread tells everyone
                link.hang_up()

    @property
    def _has_news(self) -> bool:
        return bool(self._unsent or self._withdrawn or self._caches.any_released or self._closing.is_set())

    def _sweep(self) -> None:
        if (now := self._clock()) - self._swept >= SWEEP_S:
            self._swept = now
            self._withdraw(number for number, job in self._waiting.items() if not job.wanted())

    def _withdraw(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            self._waiting.pop(number).future.cancel()
            self._withdrawn.append(number)
            self.counters.withdrawn += 1

    def _send_all(
        self, link: ProcessLink, jobs: list[tuple[int, EncodeJob]], withdrawn: list[int], released: list[int]
    ) -> None:
        caches: list[SentCache] = []
        requests: list[SentRequest] = []
        gone: list[int] = []

        def flush() -> None:
            if requests or withdrawn or gone:
                link.send(to_engine.encode(FrontMessage(caches, requests, withdrawn, gone)))
                for each in (caches, requests, withdrawn):
                    each.clear()

        for number, job in jobs:
            if job.reuse is not None and job.reuse.cache.number not in link.known:
                link.known.add(job.reuse.cache.number)
                caches.append(sent_cache(job.reuse.cache))
            samples = link.send_array(np.ascontiguousarray(job.samples, np.float32), flush)
            requests.append(_sent_request(number, job, samples))
        gone += [number for number in released if number in link.known]
        link.known.difference_update(gone)
        flush()


def _sent_request(number: int, job: EncodeJob, samples: SentArray) -> SentRequest:
    match job.reuse:
        case CachedStep(cache, window):
            return SentRequest(number, job.deadline, samples, job.language, cache.number, sent_window(window))
        case CachedFeatures(cache, frames):
            return SentRequest(number, job.deadline, samples, job.language, cache.number, None, frames)
        case None:
            return SentRequest(number, job.deadline, samples, job.language)


def _fail(jobs: Iterable[EncodeJob], reason: str) -> None:
    for job in jobs:
        if job.future.set_running_or_notify_cancel():
            job.future.set_exception(EngineError(reason))


def _problem(error: Exception) -> object:
    """The kind of a failed connection; None while the engine process is only starting."""
    starting = isinstance(error, ConnectionError | EOFError) or (
        isinstance(error, FileNotFoundError) and error.filename is None  # no socket; shared memory has a name
    )
    return None if starting else (type(error), getattr(error, "errno", None))
