"""A model for tests of the engine, and requests for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, CacheHandle, Window

Float32 = np.ndarray


LIMIT = 60  # seconds; a test that waits longer has failed


def audio(name: int, length: int = 400) -> Float32:
    return np.full(length, name, np.float32)


class Model:
    """Answers with the name of the request. Blocks until released; `act` may raise or block."""

    def __init__(self, max_batch: int = 1, act: Callable[[list[int]], None] = lambda names: None) -> None:
        self.max_batch = max_batch
        self.batches: list[list[int]] = []
        self.applied: list[tuple[int, int | str]] = []  # steps and releases, by the number of their memory
        self.busy = threading.Event()
        self.go = threading.Event()
        self._act = act

    def fits(self, samples: int, others: Sequence[int]) -> bool:
        return all(samples == other for other in others)

    def encode(self, batch: Sequence[Float32], recalls: Sequence[CachedFeatures | None] = ()) -> list[Float32]:
        names = [int(samples[0]) for samples in batch]
        self.batches.append(names)
        self.busy.set()
        assert self.go.wait(LIMIT)
        self._act(names)
        return [np.float32([[name]]) for name in names]

    def fits_step(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        return all(step.cache.left_context == other.cache.left_context for other in others)

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Float32]:
        """Applies a step only if it answers, as it must; counts how often each was applied."""
        answers = self.encode([samples for samples, _ in batch])
        for samples, reuse in batch:
            self.applied.append((reuse.cache.number, int(samples[0])))
        return answers

    def release(self, memory: int) -> None:
        self.applied.append((memory, "released"))


def names(futures: Sequence[Future]) -> list[int]:
    return [int(future.result(LIMIT)[0, 0]) for future in futures]


def step(memory: CacheHandle) -> CachedStep:
    return CachedStep(memory, Window(0, 0, 0, 1, 1, 0))  # the engine does not read it


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Hanging(Model):
    """Hangs in every batch that holds one of these requests, until the test frees it."""

    def __init__(self, *hangs: int, **options: object) -> None:
        super().__init__(act=self._hang, **options)
        self.hung = threading.Semaphore(0)
        self.freed = threading.Event()
        self.hangs = set(hangs)
        self.go.set()

    def _hang(self, batch: list[int]) -> None:
        if self.hangs.intersection(batch):
            self.hung.release()
            assert self.freed.wait(LIMIT)


def wait_until(true: Callable[[], bool]) -> None:
    """Give other threads a turn until it is true. Fails after `LIMIT` seconds."""
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end
        os.sched_yield()
