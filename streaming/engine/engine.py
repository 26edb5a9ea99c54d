"""One thread owns the model. Requests of all sessions wait here, the earliest deadline first.

The worker never idles while something waits: it takes the most urgent request, fills the batch with the next ones, and
while that batch runs the next one gathers. If a batch fails its requests are tried one by one, so that one bad request
takes nobody else's audio with it; every waiter gets an answer or an `EngineError`, also when the worker dies.

A thread that hangs in the encoder cannot be stopped. `rescue` fails what it was to answer and puts another in its
place; when it comes back it finds that it has been replaced and ends. What the encoder remembers of the utterances it
was at stays as it is until then, since it may still write there.

Requests that name one memory run in the order in which they came (`lanes`). What is remembered is forgotten between
batches, when it has been released or its `CacheHandle` is gone, so that a session that vanishes leaves nothing.

A second thread searches answers, where decoding them takes long: one after the other, in the order of the answers.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from ..errors import EngineError
from ..overload import Ladder, Level
from ..requests import CachedFeatures, CachedStep, CacheHandle
from .counters import EngineCounters
from .queue import EncodeJob, Float32, RequestQueue

T = TypeVar("T")

_LOOK_AGAIN = 0.25  # seconds for which a level is believed
_GRACE = 0.5  # seconds in which every answer is in time: finals are due at once
_MOST_HUNG = 3  # workers that never came back, before the engine gives up
_FAILING = 3  # failures in a row that make it unsound

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

    def encode(self, batch: Sequence[Float32], recalls: Sequence[CachedFeatures | None]) -> list[Float32]:
        """Log-probabilities, (frames, vocabulary), for each of the sample arrays, (n,). What a recall names may be
        used and need not be there."""
        ...

    def fits_step(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        """Whether a step may share a batch with the others."""
        ...

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Float32]:
        """The same for steps of different utterances. If it raises, what is remembered is as it was, or gone."""
        ...

    def release(self, memory: int) -> None:
        """Forget what is remembered under that number, if anything is."""
        ...


class _Replaced(Exception):
    """This thread has been given up while it was in the encoder."""


class Engine:
    """Start it by making it; `close` it when done. All methods may be called from any thread."""

    def __init__(self, encoder: Encoder, *, adaptive: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.counters = EngineCounters()
        self._encoder = encoder
        self._clock = clock
        self._ladder = Ladder() if adaptive else None
        self._level = Level.NORMAL  # as of `_judged`: it is asked for with every packet
        self._judged = 0.0
        self._lanes = RequestQueue()
        self._batch: list[EncodeJob] = []  # in the worker's hands, not answered yet
        self._begun: float | None = None  # when it last called the encoder, while it is there
        self._searching: float | None = None  # since when the present search is under way
        self._turn = 0  # of the worker; another has been replaced
        self._hung: dict[int, set[int]] = {}  # by turn: memories that a replaced worker may still write to
        self._failed = 0  # requests in a row
        self._memories: dict[
            int, weakref.finalize[Any, CacheHandle]
        ] = {}  # by number; calling one puts it into `_gone`
        self._gone: deque[int] = deque()  # to be forgotten
        self._changed = threading.Condition()
        self._closing = False
        self._searcher = ThreadPoolExecutor(1, "xlsr-search")
        self._thread = self._start()

    @property
    def alive(self) -> bool:
        """Whether requests will be answered."""
        return self._thread.is_alive() and not self._closing

    @property
    def healthy(self) -> bool:
        """Whether the encoder's last answers were answers: not since a worker was replaced, or failures in a row."""
        return self._failed < _FAILING

    @property
    def working_s(self) -> float:
        """How long the encoder has been at its present call, in seconds; 0 while it has none."""
        begun = self._begun
        return 0.0 if begun is None else self._clock() - begun

    @property
    def searching_s(self) -> float:
        """The same of the present search."""
        since = self._searching
        return 0.0 if since is None else self._clock() - since

    @property
    def queued(self) -> int:
        """Requests that wait for the worker."""
        return self._lanes.waiting

    @property
    def level(self) -> Level:
        """How much sessions should give up now, judged by how late answers and searches come; nothing if not
        `adaptive`."""
        now = self._clock()
        if self._ladder is not None and now - self._judged > _LOOK_AGAIN:
            with self._changed:
                self._level, self._judged = self._ladder.level(now), now
        return self._level

    def submit(
        self,
        samples: Float32,
        *,
        deadline: float,
        wanted: Callable[[], bool] = lambda: True,
        reuse: CachedStep | CachedFeatures | None = None,
    ) -> Future[Float32]:
        """Queue audio, (n,), for encoding; `deadline`, on the engine's clock, orders the queue.

        A `CachedStep` makes it the next step of an utterance, `CachedFeatures` a full pass that may use the features
        of its steps; it waits for those that were queued before.

        The future never stays open: it gets the log-probabilities or an `EngineError`, or is cancelled because
        `wanted()` was false when its turn came.
        """
        job = EncodeJob(deadline, self._clock(), samples, wanted, reuse, Future())
        with self._changed:
            if not self.alive:
                job.future.set_exception(EngineError("the encoder is not running"))
                return job.future
            if reuse is not None and self._untouchable(reuse.cache.number):
                if isinstance(reuse, CachedStep):
                    job.future.set_exception(EngineError("the encoder hangs in an earlier step of this utterance"))
                    return job.future
                job.reuse = reuse = None
            if reuse is not None:
                self._watch(reuse.cache)
            self._lanes.put(job)
            self._changed.notify()
        return job.future

    def _watch(self, memory: CacheHandle) -> None:
        known = self._memories.get(memory.number)
        if known is None or not known.alive:
            # A finalizer may run anywhere, under any lock: it does no more than this.
            goodbye = weakref.finalize(memory, self._gone.append, memory.number)
            goodbye.atexit = False
            self._memories[memory.number] = goodbye

    def search(
        self, run: Callable[[], T], *, deadline: float, wanted: Callable[[], bool] = lambda: True
    ) -> Future[T | None]:
        """Decode an answer whose request had that deadline: beside the event loops and the encoder, in the order of
        these calls. None if `wanted()` was false when its turn came. Raises `EngineError` if the engine is closed.
        """
        asked = self._clock()

        def search() -> T | None:
            if not wanted():
                return None
            self._searching = self._clock()
            try:
                found = run()
            finally:
                self._searching = None
            now = self._clock()
            self.counters.searches += 1
            self.counters.late_searches += now > deadline
            self._judge(now, asked, deadline)
            return found

        try:
            return self._searcher.submit(search)
        except RuntimeError as error:
            raise EngineError("the engine is closed") from error

    def release(self, memory: CacheHandle) -> None:
        """Withdraw what still waits for an utterance, and forget what the encoder remembers of it."""
        with self._changed:
            goodbye = self._memories.get(memory.number)
            if goodbye is None:
                return
            for job in self._lanes.of(memory.number):
                job.future.cancel()
            goodbye()
            self._changed.notify()

    def replace_stuck_worker(self, patience_s: float) -> bool:
        """Replace the worker if the encoder has been at one call for longer than that; True if it was.

        Its waiters get an `EngineError`. Once several have been replaced and not one of them came back, the engine
        closes instead.
        """
        with self._changed:
            if self._closing or self.working_s <= patience_s:
                return False
            memories = {job.memory for job in self._batch if job.memory is not None}
            self._hung[self._turn] = memories
            stuck, self._batch, self._begun = self._batch, [], None
            for number in memories:
                stuck += self._lanes.part(number)
            self._turn += 1
            self._failed = _FAILING
            self.counters.restarts += 1
            self.counters.failures += len(stuck)
            given_up = len(self._hung) > _MOST_HUNG
            if not given_up:
                self._thread = self._start()
        log.error(
            "the encoder has not answered for %g s; %s", patience_s, "giving up" if given_up else "worker replaced"
        )
        _fail(stuck, f"the encoder did not answer within {patience_s:g} s")
        if given_up:
            self._fail_all()
        return True

    def _untouchable(self, number: int) -> bool:
        return any(number in memories for memories in self._hung.values())

    def close(self, timeout: float | None = None) -> None:
        """Finish the batch under way and the searches, fail what still waits, stop the threads; wait for them at most
        `timeout` seconds.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._searcher.shutdown(wait=False)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(self._turn,), name="xlsr-engine", daemon=True)
        thread.start()
        return thread

    def _run(self, turn: int) -> None:
        try:
            while self._next_batch():
                self._encode(self._batch.copy(), turn)
        except _Replaced:
            log.warning("a worker that was replaced has come back; its answers are dropped")
        except BaseException:
            log.exception("the encoder's worker died")
        with self._changed:
            memories = self._hung.pop(turn, None)
            if memories is not None:
                self._gone += memories
                self._changed.notify()
                return
        self._fail_all()

    def _fail_all(self) -> None:
        with self._changed:
            self._closing = True
            left, self._batch = [*self._batch, *self._lanes.clear()], []
        _fail(left, "the encoder was stopped before it answered this request")

    def _next_batch(self) -> bool:
        """Wait for work; False on close."""
        with self._changed:
            while not self._closing:
                self._forget()
                self.counters.withdrawn += self._lanes.gather(self._batch, self._encoder.max_batch, self._fits)
                if self._batch:
                    return True
                if not self.queued:
                    self._changed.wait()
            return False

    def _forget(self) -> None:
        while self._gone:
            number = self._gone.popleft()
            if self._untouchable(number):  # it comes again
                continue
            if number in self._memories and not self._memories[number].alive:
                del self._memories[number]
            self._encoder.release(number)

    def _fits(self, job: EncodeJob) -> bool:
        """Whether a job may join the batch, which has one of its kind."""
        if isinstance(job.reuse, CachedStep):
            return self._encoder.fits_step(job.reuse, [o.reuse for o in self._batch if isinstance(o.reuse, CachedStep)])
        return self._encoder.fits(len(job.samples), [len(other.samples) for other in self._batch])

    def _run_batch(self, batch: list[EncodeJob]) -> list[Float32]:
        steps = [(job.samples, job.reuse) for job in batch if isinstance(job.reuse, CachedStep)]
        if steps:
            return self._encoder.encode_steps(steps)
        recalls = [job.reuse if isinstance(job.reuse, CachedFeatures) else None for job in batch]
        return self._encoder.encode([job.samples for job in batch], recalls)

    def _encode(self, batch: list[EncodeJob], turn: int) -> None:
        begun = self._clock()
        self._enter(turn, begun)
        try:
            answers = self._run_batch(batch)
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} requests")
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    self._encode([job], turn)
                return
            self._leave(turn, batch)
            log.exception("a request of %d samples failed", len(batch[0].samples))
            self._failed += 1
            self.counters.failures += 1
            unknown = f"the model failed on the machine it runs on ({type(error).__name__}; the log there has more)"
            _fail(batch, str(error) if isinstance(error, EngineError) else unknown)
            return
        self._leave(turn, batch)
        self._failed = 0
        now = self._clock()
        self.counters.busy_s += now - begun
        self.counters.batch_sizes.observe(len(batch))
        for job, rows in zip(batch, answers, strict=True):
            self._count(job, now)
            job.future.set_result(rows)

    def _enter(self, turn: int, now: float) -> None:
        with self._changed:
            if turn != self._turn:
                raise _Replaced
            self._begun = now

    def _leave(self, turn: int, batch: list[EncodeJob]) -> None:
        """The answers of the batch are the caller's to give from here on. Keeps no job: a waiting worker must not keep
        the last sessions and their audio alive."""
        with self._changed:
            if turn != self._turn:
                raise _Replaced
            self._begun = None
            self._batch = [job for job in self._batch if job not in batch]

    def _count(self, job: EncodeJob, now: float) -> None:
        stepping = isinstance(job.reuse, CachedStep)
        (self.counters.step_waits if stepping else self.counters.pass_waits).observe(now - job.asked)
        self.counters.late += now > job.deadline
        self.counters.samples += len(job.samples)
        self._judge(now, job.asked, job.deadline)

    def _judge(self, now: float, asked: float, deadline: float) -> None:
        if self._ladder is not None:
            with self._changed:
                self._ladder.answered(now, waited=now - asked, allowed=max(deadline - asked, _GRACE))


def _fail(jobs: list[EncodeJob], why: str) -> None:
    for job in jobs:
        if not job.future.done() and (job.future.running() or job.future.set_running_or_notify_cancel()):
            job.future.set_exception(EngineError(why))
