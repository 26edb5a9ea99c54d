"""What waits for the encoder, the earliest deadline first, and in which order it may run.

A request is a whole pass or a step that goes on from what the encoder remembers of an utterance; a batch holds one
kind. Requests that name one memory stand in one lane: they run in the order in which they came, never two in one batch,
and an urgent one hurries those before it. Nothing here is locked: the engine is.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..requests import CachedFeatures, CachedStep

Float32 = NDArray[np.float32]

_LOOK: Final = 64  # requests that may not fit into a batch before one stops looking for more that do


@dataclass(slots=True, eq=False)
class EncodeJob:
    """One request."""

    deadline: float
    asked: float  # when
    samples: Float32
    wanted: Callable[[], bool]
    reuse: CachedStep | CachedFeatures | None
    future: Future[Float32]
    order: int = 0  # of coming; lanes set it

    @property
    def memory(self) -> int | None:
        """The number of the memory that it names."""
        return None if self.reuse is None else self.reuse.cache.number


@dataclass(slots=True)
class _Lane:
    jobs: deque[EncodeJob] = field(default_factory=deque[EncodeJob])
    ticket: int = 0  # of its entry in a queue; older entries do not count

    @property
    def due(self) -> float:
        return min(job.deadline for job in self.jobs)

    @property
    def stepping(self) -> bool:
        return isinstance(self.jobs[0].reuse, CachedStep)


_Queue = list[tuple[float, int, int, _Lane]]  # heap of (due, order of the first job, ticket, lane)


class RequestQueue:
    """`put` requests, and `gather` batches of them."""

    def __init__(self) -> None:
        self.waiting = 0  # requests
        self._queues: tuple[_Queue, _Queue] = ([], [])  # whole passes, steps
        self._lanes: dict[int, _Lane] = {}  # that are not empty, by the number of their memory
        self._order = count(1)

    def put(self, job: EncodeJob) -> None:
        """Behind those that name the same memory."""
        job.order = next(self._order)
        lane = _Lane() if job.memory is None else self._lanes.setdefault(job.memory, _Lane())
        lane.jobs.append(job)
        self.waiting += 1
        self._queue(lane)

    def of(self, memory: int) -> Iterable[EncodeJob]:
        """What waits for that memory."""
        return self._lanes[memory].jobs if memory in self._lanes else ()

    def gather(self, batch: list[EncodeJob], most: int, fits: Callable[[EncodeJob], bool]) -> int:
        """Fill the empty batch with the most urgent request, then with those that fit beside it in order of urgency;
        its futures are running then. How many came up that nobody waits for any more; they are cancelled.
        """
        queue = self._most_urgent()
        seen: list[_Lane] = []  # one job of a lane at a time
        misfits = withdrawn = 0
        try:
            while queue and len(batch) < most and misfits < _LOOK:
                *_, ticket, lane = queue[0]
                if ticket == lane.ticket:
                    job = lane.jobs[0]  # still in the queue while questions are asked that could fail
                    if not job.wanted():
                        job.future.cancel()
                    joins = job.future.cancelled() or not batch or fits(job)
                    lane.ticket = 0
                    if not joins:
                        misfits += 1
                        seen.append(lane)
                    elif self._pop(lane).set_running_or_notify_cancel():
                        batch.append(job)
                        seen.append(lane)
                    else:
                        withdrawn += 1
                        self._queue(lane)
                heapq.heappop(queue)
        finally:
            for lane in seen:
                self._queue(lane)
        return withdrawn

    def part(self, memory: int) -> list[EncodeJob]:
        """Take the lane apart of a memory that is not to be touched: its passes do without, its steps are returned."""
        lane = self._lanes.pop(memory, None)
        if lane is None:
            return []
        steps = [job for job in lane.jobs if isinstance(job.reuse, CachedStep)]
        for job in lane.jobs:
            if not isinstance(job.reuse, CachedStep):
                job.reuse = None
                self._queue(_Lane(deque([job])))
        lane.jobs, lane.ticket = deque(), 0
        self.waiting -= len(steps)
        return steps

    def clear(self) -> list[EncodeJob]:
        """All that waited."""
        lanes = {id(lane): lane for queue in self._queues for *_, lane in queue}
        self._queues, self.waiting = ([], []), 0
        self._lanes.clear()
        return [job for lane in lanes.values() for job in lane.jobs]

    def _queue(self, lane: _Lane) -> None:
        """Put the lane, unless it is empty, where its first job and its most urgent one say."""
        if lane.jobs:
            lane.ticket = next(self._order)
            heapq.heappush(self._queues[lane.stepping], (lane.due, lane.jobs[0].order, lane.ticket, lane))

    def _most_urgent(self) -> _Queue:
        """The queue whose first entry is due first, with no outdated entry before it."""
        for queue in self._queues:
            while queue and queue[0][2] != queue[0][3].ticket:
                heapq.heappop(queue)
        passes, steps = self._queues
        return min(passes, steps, key=lambda queue: queue[0][:2]) if passes and steps else passes or steps

    def _pop(self, lane: _Lane) -> Future[Float32]:
        job = lane.jobs.popleft()
        self.waiting -= 1
        if not lane.jobs and job.memory is not None:
            del self._lanes[job.memory]
        return job.future
