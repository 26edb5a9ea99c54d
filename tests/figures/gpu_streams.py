"""How many live streams a device carries: simulated with its measured times, and really run through the engine.

Streams speak 60 % of the time: utterances and the silences between them have exponential lengths. Every hop of speech
is a step, and every utterance ends with a whole pass over it. Neither has a gate, a decoder or a network.
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
    p50: float  # seconds from the moment a step is due to its answer
    p95: float
    p95_final: float
    busy: float | None  # share of the time in which the device worked, where that is simulated


class _Due(NamedTuple):
    at: float
    order: int
    stream: int
    step: int  # of the utterance; -1: its whole pass
    seconds: float  # of the utterance so far, or of all of it


def arrivals(streams: int, seconds: float, seed: int = 0) -> Iterator[_Due]:
    """All work that falls due within so many seconds, in order."""
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
    """One device that is always given the whole passes first, and then the oldest steps, as many as fit. Takes the
    measured medians for its times; the host is free."""
    step_cost = {step.batch: step.median for step in steps}
    most = max(step_cost)
    alone = [(each.length, each.median) for each in passes if each.batch == 1]
    lengths, costs = (np.array(x) for x in zip(*alone, strict=True))
    finals: list[_Due] = []
    waiting: list[_Due] = []
    late: list[float] = []
    late_finals: list[float] = []
    now = busy = 0.0
    coming = arrivals(streams, seconds)
    following = next(coming, None)
    while following or finals or waiting:
        if not finals and not waiting and following:
            now = max(now, following.at)
        while following and following.at <= now:
            heapq.heappush(finals if following.step < 0 else waiting, following)
            following = next(coming, None)
        if finals:
            taken = [heapq.heappop(finals)]
            cost = float(np.interp(taken[0].seconds, lengths, costs))
        else:
            taken = [heapq.heappop(waiting) for _ in range(min(most, len(waiting)))]
            cost = step_cost[min(size for size in step_cost if size >= len(taken))]
        now += cost
        busy += cost
        (late_finals if taken[0].step < 0 else late).extend(now - each.at for each in taken)
    return _load(streams, late, late_finals, busy / max(now, seconds))


def most_streams(good: Callable[[int], bool], most: int = 1 << 16) -> int:
    """The largest number that is good, if all below it are, to within a thirty-second; 0 if none is."""
    low, high = 0, 1
    while high <= most and good(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 32):
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


def paced(engine: Engine, streams: int, seconds: float) -> Load:
    """The same work given to an engine when it falls due."""
    audio = noise(_LONGEST + 1, 0)
    late: list[float] = []
    finals: list[float] = []
    speaking: dict[int, tuple[CacheHandle, list[Window]]] = {}
    lock, answers = threading.Lock(), list[Future[NDArray[np.float32]]]()
    begun = time.monotonic()

    def told(into: list[float], due: float) -> Callable[[Future[NDArray[np.float32]]], None]:
        def answered(answer: Future[NDArray[np.float32]]) -> None:
            if not answer.cancelled():  # nobody wanted it any more
                with lock:
                    into.append(time.monotonic() - due)

        return answered

    for each in arrivals(streams, seconds):
        due = begun + each.at
        time.sleep(max(0.0, due - time.monotonic()))
        if each.step < 0:
            known = speaking.pop(each.stream, None)
            answer = engine.submit(audio[: int(each.seconds * 16_000)], deadline=due)
            answer.add_done_callback(told(finals, due))
            if known:
                engine.release(known[0])
        else:
            if each.stream not in speaking:
                planner = WindowPlanner(hop=HOP, lookahead=LOOKAHEAD, left_context=LEFT)
                speaking[each.stream] = CacheHandle(LEFT, LOOKAHEAD), planner.plan(span(HOP * int(_LONGEST / _HOP + 1)))
            memory, windows = speaking[each.stream]
            window = windows.pop(0)
            reuse = CachedStep(memory, window)
            answer = engine.submit(audio[slice(*window.new_samples)], deadline=due + _HOP, reuse=reuse)
            answer.add_done_callback(told(late, due))
        answers.append(answer)
    wait(answers)
    for memory, _ in speaking.values():
        engine.release(memory)
    return _load(streams, late, finals, None)


def _load(streams: int, late: Sequence[float], finals: Sequence[float], busy: float | None) -> Load:
    if not late:
        return Load(streams, 0.0, 0.0, 0.0, busy)
    p50, p95 = (float(x) for x in np.quantile(late, (0.5, 0.95)))
    return Load(streams, p50, p95, float(np.quantile(finals, 0.95)) if finals else 0.0, busy)
