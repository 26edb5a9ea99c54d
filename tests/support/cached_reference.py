"""A single-stream reference for cached steps."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from xlsr_live.streaming.model.cache import CacheManager
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.layers import XlsrLayers
from xlsr_live.streaming.model.runners import EagerRunner
from xlsr_live.streaming.model.step import StepEncoder
from xlsr_live.streaming.requests import CachedStep, CacheHandle, Window
from xlsr_live.streaming.session.planner import WindowPlanner

Float32 = np.ndarray


ROOM = 1 << 28  # bytes


def windows(samples: int, hop: int, lookahead: int, left: int) -> list[Window]:
    planner = WindowPlanner(hop=hop, lookahead=lookahead, left_context=left)
    rest = [*planner.plan(samples)], planner.finish(samples)
    return [*rest[0], rest[1]] if rest[1] else rest[0]


class Utterance:
    """Takes its steps one by one."""

    def __init__(self, samples: Float32, hop: int, lookahead: int, left: int, *, language: str | None = None) -> None:
        self.memory = CacheHandle(left, lookahead, language=language)
        self.samples = samples
        self.left = windows(len(samples), hop, lookahead, left)
        self.rows: list[Float32] = []

    @property
    def next(self) -> tuple[Float32, CachedStep]:
        return self.samples[slice(*self.left[0].new_samples)], CachedStep(self.memory, self.left[0])

    def take(self, rows: Float32) -> None:
        assert len(rows) == self.left[0].newest - self.left[0].committed
        self.rows.append(rows)
        self.left.pop(0)

    def run(self, steps: StepEncoder | XlsrEncoder) -> Self:
        while self.left:
            self.take(steps.encode_steps([self.next])[0])
        steps.release(self.memory.number)
        return self


def fresh(encoder: XlsrEncoder, room: int = ROOM) -> StepEncoder:
    network = XlsrLayers(encoder._model)
    return StepEncoder(network, CacheManager(network.pool, most_bytes=room), EagerRunner(torch.device("cpu")))


def difference(a: list[Float32], b: list[Float32]) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))
