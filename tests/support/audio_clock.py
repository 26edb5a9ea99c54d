"""Runs a session on the clock of its audio: a packet arrives when its last sample is spoken, and a job takes the CPU
time that it needs here. So other load on the machine does not move the results.

Encodings wait for each other and so do decodings, as in the engine's two threads; the earliest deadline goes first.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray
from xlsr_live.streaming import Recognizer, SessionConfig
from xlsr_live.streaming.audio.vad import make_vad
from xlsr_live.streaming.protocol.events import Event
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, DecodeJob, Job, Request
from xlsr_live.streaming.session.session import Session

RATE = 16_000
PACKET = 480  # samples, a frame of the detector


@dataclass(slots=True)
class Played:
    """A session's events with their times, and what its passes cost. Seconds of audio, seconds of CPU."""

    events: list[tuple[float, Event]] = field(default_factory=list[tuple[float, Event]])
    cpu_s: float = 0.0
    passes: int = 0  # full passes
    passed_s: float = 0.0  # audio in them
    outdated: int = 0  # full passes whose answer did not matter when it came


@dataclass(slots=True)
class _Worker:
    """One thread: takes the job with the earliest deadline when it is free."""

    free: float = 0.0
    waiting: list[tuple[float, int, float, Job]] = field(default_factory=list[tuple[float, int, float, Job]])


class AudioClock:
    """Plays one stream of 16 kHz samples, (n,). `flush_at` are samples after which the client sends a flush."""

    def __init__(self, recognizer: Recognizer, config: SessionConfig) -> None:
        self._encoder = recognizer.encoder
        self._session = Session(
            recognizer.encoder.vocabulary,
            config,
            vad=make_vad(config.vad),
            normalized=recognizer.encoder.normalized,
            epsilon=recognizer.encoder.epsilon,
            modes=recognizer.info.modes,
            lookahead_ms=recognizer.info.lookahead_ms,
            assets=recognizer.assets,
        )
        self._played = Played()
        self._now = 0.0
        self._order = count()
        self._workers = {Request: _Worker(), DecodeJob: _Worker()}
        self._answers: list[tuple[float, int, Job, object]] = []  # heap by time

    def play(self, samples: NDArray[np.float32], flush_at: set[int] | None = None) -> Played:
        flushes = flush_at or set()
        edges = sorted({*range(PACKET, len(samples), PACKET), len(samples), *flushes})
        start = 0
        for end in edges:
            self._answer_until(end / RATE)
            self._now = max(self._now, end / RATE)
            packet = samples[start:end]
            self._call(lambda now, packet=packet: self._session.receive_audio(packet, now))
            if end in flushes:
                self._call(self._session.receive_flush)
            start = end
        self._call(self._session.receive_eof)
        self._answer_until(float("inf"))
        assert self._session.ended
        return self._played

    def _call(self, act: Callable[[float], None]) -> None:
        """Let the session act, at the cost of its CPU time, then take its jobs and events."""
        started = time.thread_time()
        act(self._now)
        jobs, events, released = self._session.requests(), self._session.events(), self._session.released()
        cost = time.thread_time() - started
        self._now += cost
        self._played.cpu_s += cost
        self._played.events += [(self._now, event) for event in events]
        for job in jobs:
            heapq.heappush(self._workers[type(job)].waiting, (job.deadline, next(self._order), self._now, job))
        for handle in released:
            self._encoder.release(handle.number)
        self._start_jobs()

    def _start_jobs(self) -> None:
        """Run what a worker can begin by now; the answer comes when its CPU time has passed."""
        for worker in self._workers.values():
            while worker.waiting and worker.free <= self._now:
                _, _, submitted, job = heapq.heappop(worker.waiting)
                if not self._session.wants(job.id):
                    continue
                started = time.thread_time()
                answer = self._run(job)
                cost = time.thread_time() - started
                self._played.cpu_s += cost
                worker.free = max(worker.free, submitted) + cost
                heapq.heappush(self._answers, (worker.free, next(self._order), job, answer))

    def _run(self, job: Job) -> object:
        match job:
            case DecodeJob():
                return job.run()
            case Request(reuse=CachedStep() as step):
                return self._encoder.encode_steps([(job.samples, step)])[0]
            case _:
                self._played.passes += 1
                self._played.passed_s += len(job.samples) / RATE
                cached = job.reuse if isinstance(job.reuse, CachedFeatures) else None
                return self._encoder.encode([job.samples], [cached])[0]

    def _answer_until(self, until: float) -> None:
        while self._answers and self._answers[0][0] <= until:
            at, _, job, answer = heapq.heappop(self._answers)
            self._now = max(self._now, at)
            if not self._session.wants(job.id):
                self._played.outdated += isinstance(job, Request) and job.kind == "final"
            self._call(lambda now, job=job, answer=answer: self._session.receive_answer(job.id, answer, now))
