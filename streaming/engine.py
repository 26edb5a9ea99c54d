"""One thread owns the model. Requests of all sessions wait here, the earliest deadline first.

The worker never idles while something waits: it takes the most urgent request, fills the batch with the next ones, and
while that batch runs the next one gathers. If a batch fails its requests are tried one by one, so that one bad request
takes nobody else's audio with it; every waiter gets an answer or an `EngineError`, also when the worker dies.

A request is a whole pass or a step that goes on from what the encoder remembers of an utterance; a batch holds one
kind. Steps of one utterance run in the order of the queue, never two in one batch. What is remembered is forgotten
between batches, when it has been released or its `Memory` is gone, so that a session that vanishes leaves nothing.
"""

from __future__ import annotations

import heapq
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError
from .windows import Memory, Reuse

Float32 = NDArray[np.float32]

log = logging.getLogger("xlsr_live.engine")


class Encoder(Protocol):
    """What the engine runs."""

    @property
    def max_batch(self) -> int:
        """Most utterances that one call may hold."""
        ...

    def fits(self, samples: int, others: Sequence[int]) -> bool:
        """Whether audio of that many samples may share a batch with audio of the other lengths."""
        ...

    def encode(self, batch: Sequence[Float32]) -> list[Float32]:
        """Log-probabilities, (frames, vocabulary), for each of the sample arrays, (n,)."""
        ...

    def fits_step(self, step: Reuse, others: Sequence[Reuse]) -> bool:
        """Whether a step may share a batch with the others."""
        ...

    def advance(self, batch: Sequence[tuple[Float32, Reuse]]) -> list[Float32]:
        """The same for steps of different utterances. If it raises, what is remembered is as it was, or gone."""
        ...

    def release(self, memory: int) -> None:
        """Forget what is remembered under that number, if anything is."""
        ...


@dataclass(order=True, slots=True)
class _Job:
    deadline: float
    order: int
    samples: Float32 = field(compare=False)
    wanted: Callable[[], bool] = field(compare=False)
    reuse: Reuse | None = field(compare=False)
    future: Future[Float32] = field(compare=False)


@dataclass(slots=True)
class EngineCounters:
    """Since the start of the engine."""

    batches: int = 0
    requests: int = 0  # answered
    steps: int = 0  # of these, cached steps
    withdrawn: int = 0  # not encoded, as nobody wanted the answer any more
    failures: int = 0  # requests that got an error
    samples: int = 0  # encoded, without padding


class Engine:
    """Start it by making it; `close` it when done. All methods may be called from any thread."""

    def __init__(self, encoder: Encoder) -> None:
        self.counters = EngineCounters()
        self._encoder = encoder
        self._heap: list[_Job] = []
        self._batch: list[_Job] = []  # in the worker's hands
        self._order = count()
        self._memories: dict[int, weakref.finalize[Any, Memory]] = {}  # by number; calling one puts it into `_gone`
        self._gone: deque[int] = deque()  # to be forgotten
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="xlsr-engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests will be answered."""
        return self._thread.is_alive() and not self._closing

    @property
    def queued(self) -> int:
        """Requests that wait for the worker."""
        return len(self._heap)

    def submit(
        self,
        samples: Float32,
        *,
        deadline: float,
        wanted: Callable[[], bool] = lambda: True,
        reuse: Reuse | None = None,
    ) -> Future[Float32]:
        """Queue audio, (n,), for encoding; `deadline` orders the queue.

        With `reuse` it is the next step of an utterance, whose earlier steps were queued before, with deadlines no
        later.

        The future never stays open: it gets the log-probabilities or an `EngineError`, or is cancelled because
        `wanted()` was false when its turn came.
        """
        job = _Job(deadline, next(self._order), samples, wanted, reuse, Future())
        with self._changed:
            if not self.alive:
                job.future.set_exception(EngineError("the encoder is not running"))
                return job.future
            if reuse is not None:
                self._watch(reuse.memory)
            heapq.heappush(self._heap, job)
            self._changed.notify()
        return job.future

    def _watch(self, memory: Memory) -> None:
        known = self._memories.get(memory.number)
        if known is None or not known.alive:
            # A finalizer may run anywhere, under any lock: it does no more than this.
            goodbye = weakref.finalize(memory, self._gone.append, memory.number)
            goodbye.atexit = False
            self._memories[memory.number] = goodbye

    def release(self, memory: Memory) -> None:
        """Withdraw the steps of an utterance that still wait, and forget what the encoder remembers of it."""
        with self._changed:
            goodbye = self._memories.get(memory.number)
            if goodbye is None:
                return
            for job in self._heap:
                if job.reuse is not None and job.reuse.memory is memory:
                    job.future.cancel()
            goodbye()
            self._changed.notify()

    def close(self) -> None:
        """Finish the batch under way, fail what still waits, stop the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            while self._next_batch():
                self._encode(self._batch)
                self._batch = []  # a waiting worker must not keep the last sessions and their audio alive
        except BaseException:
            log.exception("the encoder's worker died")
        finally:
            with self._changed:
                self._closing = True
                left = [*self._batch, *self._heap]
                self._batch, self._heap = [], []
            for job in left:
                if not job.future.done() and (job.future.running() or job.future.set_running_or_notify_cancel()):
                    job.future.set_exception(EngineError("the encoder was stopped before it answered this request"))

    def _next_batch(self) -> bool:
        """Wait for work; False on close."""
        with self._changed:
            while not self._closing:
                self._forget()
                self._gather()
                if self._batch:
                    return True
                self._changed.wait()
            return False

    def _forget(self) -> None:
        while self._gone:
            number = self._gone.popleft()
            if number in self._memories and not self._memories[number].alive:
                del self._memories[number]
            self._encoder.release(number)

    def _gather(self) -> None:
        """Take the most urgent request, then those that fit beside it in order of urgency."""
        passed_over: list[_Job] = []
        seen: set[int] = set()  # utterances that have a step in the batch, or an earlier one that must come first
        try:
            while self._heap and len(self._batch) < self._encoder.max_batch:
                job = self._heap[0]  # still in the queue while questions are asked that could fail
                if not job.wanted():
                    job.future.cancel()
                fits = not self._batch or self._fits(job, seen)
                heapq.heappop(self._heap)
                if job.reuse is not None and not job.future.cancelled():
                    seen.add(job.reuse.memory.number)
                if not fits:
                    passed_over.append(job)
                elif job.future.set_running_or_notify_cancel():
                    self._batch.append(job)
                else:
                    self.counters.withdrawn += 1
        finally:
            for job in passed_over:
                heapq.heappush(self._heap, job)

    def _fits(self, job: _Job, seen: set[int]) -> bool:
        """Whether a job may join the batch, which has one."""
        if job.reuse is None:
            lengths = [len(other.samples) for other in self._batch if other.reuse is None]
            return bool(lengths) and self._encoder.fits(len(job.samples), lengths)
        steps = [other.reuse for other in self._batch if other.reuse is not None]
        return bool(steps) and job.reuse.memory.number not in seen and self._encoder.fits_step(job.reuse, steps)

    def _run_batch(self, batch: list[_Job]) -> list[Float32]:
        steps = [(job.samples, job.reuse) for job in batch if job.reuse is not None]
        return self._encoder.advance(steps) if steps else self._encoder.encode([job.samples for job in batch])

    def _encode(self, batch: list[_Job]) -> None:
        self.counters.batches += 1
        try:
            answers = self._run_batch(batch)
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} requests")
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    self._encode([job])
                return
            log.exception("a request of %d samples failed", len(batch[0].samples))
            self.counters.failures += 1
            why = str(error) if isinstance(error, EngineError) else f"the encoder failed: {type(error).__name__}"
            batch[0].future.set_exception(EngineError(why))
            return
        for job, rows in zip(batch, answers, strict=True):
            self.counters.requests += 1
            self.counters.steps += job.reuse is not None
            self.counters.samples += len(job.samples)
            job.future.set_result(rows)
