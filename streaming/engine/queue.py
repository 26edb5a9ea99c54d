"""The queue of requests for the encoder, earliest deadline first.

A request is a full pass, or a live step that continues from an utterance's cache; a batch holds one kind. Requests with
the same cache form a line: they run in order of arrival, never two in one batch, with the earliest deadline of the
line. The engine locks the queue.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Final

from ..errors import EngineError
from ..requests import CachedFeatures, CachedStep
from .encoder import Float32

_MAX_MISFITS: Final = 64  # requests that do not fit into the batch before `fill` stops


@dataclass(slots=True, eq=False)
class EncodeJob:
    """One request."""

    deadline: float
    submitted: float  # time
    samples: Float32
    wanted: Callable[[], bool]
    reuse: CachedStep | CachedFeatures | None
    future: Future[Float32]
    language: str | None = None  # of a full pass; a step's is that of its cache handle
    order: int = 0  # of arrival; set by the queue

    @property
    def cache(self) -> int | None:
        """The number of its cache."""
        return None if self.reuse is None else self.reuse.cache.number


@dataclass(slots=True)
class _Line:
    """Requests with the same cache, or one without a cache."""

    jobs: deque[EncodeJob] = field(default_factory=deque[EncodeJob])
    ticket: int = 0  # of its valid heap entry; entries with other tickets are outdated

    @property
    def deadline(self) -> float:
        return min(job.deadline for job in self.jobs)

    @property
    def is_step(self) -> bool:
        return isinstance(self.jobs[0].reuse, CachedStep)


_Heap = list[tuple[float, int, int, _Line]]  # of (deadline, order of the first job, ticket, line)


def fail(jobs: Iterable[EncodeJob], reason: str) -> None:
    """Answer the unanswered ones with an `EngineError`."""
    for job in jobs:
        if not job.future.done() and (job.future.running() or job.future.set_running_or_notify_cancel()):
            job.future.set_exception(EngineError(reason))


class RequestQueue:
    """`put` requests and `fill` batches with them."""

    def __init__(self) -> None:
        self.waiting = 0  # requests
        self._heaps: tuple[_Heap, _Heap] = ([], [])  # full passes, live steps
        self._lines: dict[int, _Line] = {}  # nonempty lines by cache number
        self._order = count(1)

    def put(self, job: EncodeJob) -> None:
        """Add a request after those with the same cache."""
        job.order = next(self._order)
        line = _Line() if job.cache is None else self._lines.setdefault(job.cache, _Line())
        line.jobs.append(job)
        self.waiting += 1
        self._push(line)

    def waiting_for(self, cache: int) -> Iterable[EncodeJob]:
        """Requests with that cache."""
        return self._lines[cache].jobs if cache in self._lines else ()

    def fill(
        self,
        batch: list[EncodeJob],
        limit: int,
        fits: Callable[[EncodeJob], bool],
        busy: Collection[int] = (),
    ) -> int:
        """Fill the empty batch with the most urgent request, then with others that fit, in order of urgency.

        Requests with `busy` caches wait. The futures of the others become running. Returns the number of unwanted
        requests, which it cancels instead.
        """
        return self._fill(self._most_urgent(), batch, limit, fits, busy)

    def fill_steps(
        self,
        before: float,
        batch: list[EncodeJob],
        limit: int,
        fits: Callable[[EncodeJob], bool],
        busy: Collection[int] = (),
    ) -> int:
        """`fill` with live steps, if the first of them is due before that time."""
        return self._fill(self._heaps[True], batch, limit, fits, busy, before)

    def _fill(
        self,
        heap: _Heap,
        batch: list[EncodeJob],
        limit: int,
        fits: Callable[[EncodeJob], bool],
        busy: Collection[int],
        before: float = inf,
    ) -> int:
        taken: list[_Line] = []  # each gives one job at most
        misfits = withdrawn = 0
        try:
            while heap and len(batch) < limit and misfits < _MAX_MISFITS and (batch or heap[0][0] < before):
                *_, ticket, line = heap[0]
                if ticket == line.ticket and line.jobs[0].cache in busy:
                    line.ticket = 0
                    taken.append(line)
                elif ticket == line.ticket:
                    job = line.jobs[0]  # it stays in the heap during the calls that may raise
                    if not job.wanted():
                        job.future.cancel()
                    joins = job.future.cancelled() or not batch or fits(job)
                    line.ticket = 0
                    if not joins:
                        misfits += 1
                        taken.append(line)
                    elif self._pop(line).set_running_or_notify_cancel():
                        batch.append(job)
                        taken.append(line)
                    else:
                        withdrawn += 1
                        self._push(line)
                heapq.heappop(heap)
        finally:
            for line in taken:
                self._push(line)
        return withdrawn

    def detach(self, cache: int) -> list[EncodeJob]:
        """Remove the line of a locked cache: its full passes stay queued without the cache, its steps are returned."""
        line = self._lines.pop(cache, None)
        if line is None:
            return []
        steps = [job for job in line.jobs if isinstance(job.reuse, CachedStep)]
        for job in line.jobs:
            if not isinstance(job.reuse, CachedStep):
                job.reuse = None
                self._push(_Line(deque([job])))
        line.jobs, line.ticket = deque(), 0
        self.waiting -= len(steps)
        return steps

    def clear(self) -> list[EncodeJob]:
        """Remove and return all requests."""
        lines = {id(line): line for heap in self._heaps for *_, line in heap}
        self._heaps, self.waiting = ([], []), 0
        self._lines.clear()
        return [job for line in lines.values() for job in line.jobs]

    def _push(self, line: _Line) -> None:
        """Add a heap entry for a nonempty line, by its earliest deadline, then by the arrival of its first job."""
        if line.jobs:
            line.ticket = next(self._order)
            heapq.heappush(self._heaps[line.is_step], (line.deadline, line.jobs[0].order, line.ticket, line))

    def _most_urgent(self) -> _Heap:
        """The heap whose first entry is due first, without outdated entries before it."""
        for heap in self._heaps:
            while heap and heap[0][2] != heap[0][3].ticket:
                heapq.heappop(heap)
        passes, steps = self._heaps
        return min(passes, steps, key=lambda heap: heap[0][:2]) if passes and steps else passes or steps

    def _pop(self, line: _Line) -> Future[Float32]:
        job = line.jobs.popleft()
        self.waiting -= 1
        if not line.jobs and job.cache is not None:
            del self._lines[job.cache]
        return job.future
