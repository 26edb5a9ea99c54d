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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.frames import span
from xlsr_live.streaming.requests import CachedStep, CacheHandle, Window
from xlsr_live.streaming.session.planner import WindowPlanner

from tests.figures.gpu_times import PassTime, StepTime
from tests.support.random_xlsr import HOP, LEFT, LOOKAHEAD, noise

_SPEECH, _SILENCE = 4.0, 4.0 * 0.4 / 0.6  # mean seconds
_LONGEST = 20.0
_HOP = HOP * 0.02  # seconds


class Load(NamedTuple):
    streams: int
    p50: float  # seconds from the due time of a step to its answer
    p95: float
    p95_final: float
    busy: float | None  # share of the time in which the device works; None unless simulated


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
    """One device that runs full passes first, then batches of the oldest steps.

    Uses the measured medians as times and assumes that the host costs nothing.
    """
    step_cost = {step.batch: step.median for step in steps}
    most = max(step_cost)
    single = [(each.length, each.median) for each in passes if each.batch == 1]
    lengths, costs = (np.array(x) for x in zip(*single, strict=True))
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
            taken = [heapq.heappop(finals)]
            cost = float(np.interp(taken[0].seconds, lengths, costs))
        else:
            taken = [heapq.heappop(waiting) for _ in range(min(most, len(waiting)))]
            cost = step_cost[min(size for size in step_cost if size >= len(taken))]
        now += cost
        busy += cost
        (final_delays if taken[0].step < 0 else delays).extend(now - each.at for each in taken)
    return _load(streams, delays, final_delays, busy / max(now, seconds))


def most_streams(good: Callable[[int], bool], most: int = 1 << 16) -> int:
    """The largest number for which `good` is true, to within 1/32; 0 if there is none. `good` must be monotonic."""
    low, high = 0, 1
    while high <= most and good(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 32):
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


def paced(engine: Engine, streams: int, seconds: float) -> Load:
    """Submit the same work to an engine in real time."""
    audio = noise(_LONGEST + 1, 0)
    delays: list[float] = []
    finals: list[float] = []
    utterances: dict[int, tuple[CacheHandle, list[Window]]] = {}
    lock, answers = threading.Lock(), list[Future[NDArray[np.float32]]]()
    started = time.monotonic()

    def record_delay(into: list[float], due: float) -> Callable[[Future[NDArray[np.float32]]], None]:
        def answered(answer: Future[NDArray[np.float32]]) -> None:
            if not answer.cancelled():  # no longer wanted
                with lock:
                    into.append(time.monotonic() - due)

        return answered

    for each in arrivals(streams, seconds):
        due = started + each.at
        time.sleep(max(0.0, due - time.monotonic()))
        if each.step < 0:
            utterance = utterances.pop(each.stream, None)
            answer = engine.submit(audio[: int(each.seconds * 16_000)], deadline=due)
            answer.add_done_callback(record_delay(finals, due))
            if utterance:
                engine.release(utterance[0])
        else:
            if each.stream not in utterances:
                planner = WindowPlanner(hop=HOP, lookahead=LOOKAHEAD, left_context=LEFT)
                utterances[each.stream] = (
                    CacheHandle(LEFT, LOOKAHEAD),
                    planner.plan(span(HOP * int(_LONGEST / _HOP + 1))),
                )
            memory, windows = utterances[each.stream]
            window = windows.pop(0)
            reuse = CachedStep(memory, window)
            answer = engine.submit(audio[slice(*window.new_samples)], deadline=due + _HOP, reuse=reuse)
            answer.add_done_callback(record_delay(delays, due))
        answers.append(answer)
    wait(answers)
    for memory, _ in utterances.values():
        engine.release(memory)
    return _load(streams, delays, finals, None)


def _load(streams: int, delays: Sequence[float], finals: Sequence[float], busy: float | None) -> Load:
    if not delays:
        return Load(streams, 0.0, 0.0, 0.0, busy)
    p50, p95 = (float(x) for x in np.quantile(delays, (0.5, 0.95)))
    return Load(streams, p50, p95, float(np.quantile(finals, 0.95)) if finals else 0.0, busy)
