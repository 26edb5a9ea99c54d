"""The number of live streams that a device carries: simulated with its measured times, and run through the engine.

Streams contain 60 % speech: utterances and the silences between them have exponential lengths. Every hop of speech is a
step, and every utterance ends with a full pass. Both runs omit the gate, the decoder and the network.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.frames import span
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, CacheHandle, Window
from xlsr_live.streaming.session.planner import WindowPlanner

from tests.figures.gpu_times import PassTime, StepTime
from tests.support.random_xlsr import HOP, LEFT, LOOKAHEAD, noise

_SPEECH, _SILENCE = 4.0, 4.0 * 0.4 / 0.6  # mean seconds
_LONGEST = 20.0
_HOP = HOP * 0.02  # seconds


class Load(NamedTuple):
    streams: int
    p50: float  # seconds from the due time of a step to its rows
    p95: float
    p95_final: float
    busy: float | None  # share of the time in which the device works; None unless simulated
    answers: int = 0  # with rows
    failed: int = 0  # answers without rows
    cancelled: int = 0
    behind: float = 0.0  # the most seconds that the submission of a request came after its due time


class _Due(NamedTuple):
    at: float
    order: int
    stream: int
    step: int  # of the utterance; -1: its full pass
    seconds: float  # of the utterance so far; for a full pass its whole length


def arrivals(streams: int, seconds: float, seed: int = 0) -> Iterator[_Due]:
    """All work due within `seconds`, in order."""
    random = np.random.default_rng(seed)
    due: list[_Due] = []
    for stream in range(streams):
        now = -random.exponential(_SPEECH) if random.random() < 0.6 else random.exponential(_SILENCE)
        while now < seconds:
            length = min(_LONGEST, max(0.5, random.exponential(_SPEECH)))
            steps = int(length / _HOP)
            due += [_Due(now + (k + 1) * _HOP, 0, stream, k, (k + 1) * _HOP) for k in range(steps)]
            due.append(_Due(now + length, 1, stream, -1, length))
            now += length + max(0.2, random.exponential(_SILENCE))
    return iter(sorted(each for each in due if 0 <= each.at < seconds))


def simulated(streams: int, seconds: float, steps: Sequence[StepTime], passes: Sequence[PassTime]) -> Load:
    """One device that runs batches of full passes first, then batches of the oldest steps.

    Uses the measured medians as times and assumes that the host costs nothing.
    """
    step_cost = {step.batch: step.median for step in steps}
    most = max(step_cost)
    finals: list[_Due] = []
    waiting: list[_Due] = []
    delays: list[float] = []
    final_delays: list[float] = []
    now = busy = 0.0
    due_work = arrivals(streams, seconds)
    upcoming = next(due_work, None)
    while upcoming or finals or waiting:
        if not finals and not waiting and upcoming:
            now = max(now, upcoming.at)
        while upcoming and upcoming.at <= now:
            heapq.heappush(finals if upcoming.step < 0 else waiting, upcoming)
            upcoming = next(due_work, None)
        if finals:
            taken, cost = _finals(finals, passes)
        else:
            taken = [heapq.heappop(waiting) for _ in range(min(most, len(waiting)))]
            cost = step_cost[min(size for size in step_cost if size >= len(taken))]
        now += cost
        busy += cost
        (final_delays if taken[0].step < 0 else delays).extend(now - each.at for each in taken)
    return _load(streams, delays, final_delays, busy=busy / max(now, seconds))


def _finals(finals: list[_Due], passes: Sequence[PassTime]) -> tuple[list[_Due], float]:
    """Take the next batch of full passes, and its time: as alone, or as in the largest measured batch."""
    batch = [heapq.heappop(finals)]
    largest = {each.length: each for each in passes if each.batch > 1}
    single = [(each.length, each.median) for each in passes if each.batch == 1]
    cost = float(np.interp(batch[0].seconds, *zip(*single, strict=True)))
    if not largest:
        return batch, cost
    bucket = min((length for length in largest if length >= batch[0].seconds), default=max(largest))
    others = sorted(each for each in finals if 0.75 * bucket < each.seconds <= bucket)
    for each in others[: largest[bucket].batch - 1]:
        finals.remove(each)
        batch.append(each)
    heapq.heapify(finals)
    return batch, max(cost, len(batch) / largest[bucket].batch * largest[bucket].median)


def most_streams(good: Callable[[int], bool], most: int = 1 << 16) -> int:
    """The largest number for which `good` is true, to within 1/32; 0 if there is none. `good` must be monotonic."""
    low, high = 0, 1
    while high <= most and good(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 32):
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


class _Answers:
    """Counts answers as they come, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.delays: list[float] = []
        self.final_delays: list[float] = []
        self.failed = self.cancelled = 0

    def count(self, due: float, final: bool, answer: Future[NDArray[np.float32]]) -> None:
        now = time.monotonic()
        with self._lock:
            if answer.cancelled():
                self.cancelled += 1
            elif answer.exception() is not None:
                self.failed += 1
            else:
                (self.final_delays if final else self.delays).append(now - due)


@dataclass(slots=True)
class _Utterance:
    windows: list[Window]  # of steps to come
    handle: CacheHandle = field(default_factory=lambda: CacheHandle(LEFT, LOOKAHEAD))
    last: Future[NDArray[np.float32]] = field(default_factory=Future[NDArray[np.float32]])  # of its steps
    _left: count[int] = field(default_factory=lambda: count(-1, -1))

    def release_after_two(self, engine: Engine, _: object) -> None:
        if next(self._left) == -2:
            engine.release(self.handle)


def paced(engine: Engine, streams: int, seconds: float, *, recall: bool) -> Load:
    """Submit the same work to an engine in real time; `recall`: finals may reuse the features of their steps.

    An utterance's cache is released after its final and its last step: a release cancels steps that wait.
    """
    audio = noise(_LONGEST + 1, 0)
    answers, submitted = _Answers(), list[Future[NDArray[np.float32]]]()
    utterances: dict[int, _Utterance] = {}
    started, behind = time.monotonic(), 0.0
    for each in arrivals(streams, seconds):
        due = started + each.at
        time.sleep(max(0.0, due - time.monotonic()))
        behind = max(behind, time.monotonic() - due)
        if each.step < 0:
            spoken = utterances.pop(each.stream, None)
            reuse = CachedFeatures(spoken.handle, spoken.windows[0].encoded) if recall and spoken else None
            answer = engine.submit(audio[: int(each.seconds * 16_000)], deadline=due, reuse=reuse)
            answer.add_done_callback(partial(answers.count, due, True))
            if spoken:
                for last in (answer, spoken.last):
                    last.add_done_callback(partial(spoken.release_after_two, engine))
        else:
            if each.stream not in utterances:
                planner = WindowPlanner(hop=HOP, lookahead=LOOKAHEAD, left_context=LEFT)
                utterances[each.stream] = _Utterance(planner.plan(span(HOP * int(_LONGEST / _HOP + 1))))
            spoken = utterances[each.stream]
            window = spoken.windows.pop(0)
            step = CachedStep(spoken.handle, window)
            answer = engine.submit(audio[slice(*window.new_samples)], deadline=due + _HOP, reuse=step)
            answer.add_done_callback(partial(answers.count, due, False))
            spoken.last = answer
        submitted.append(answer)
    wait(submitted)
    for spoken in utterances.values():
        engine.release(spoken.handle)
    load = _load(streams, answers.delays, answers.final_delays)
    return load._replace(failed=answers.failed, cancelled=answers.cancelled, behind=behind)


def _load(streams: int, delays: Sequence[float], finals: Sequence[float], *, busy: float | None = None) -> Load:
    p50, p95 = (float(x) for x in np.quantile(delays, (0.5, 0.95))) if delays else (0.0, 0.0)
    final = float(np.quantile(finals, 0.95)) if finals else 0.0
    return Load(streams, p50, p95, final, busy, len(delays) + len(finals))
