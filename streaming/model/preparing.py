"""Preparing a GPU before the first request: room for utterances, and graphs of a closed set of shapes.

Live steps of the declared geometry run in few shapes: a step of one hop, also the first and the last of an utterance,
and the wider ones of an overloaded service, each in batches of some sizes. Full passes have a ladder of lengths; large
ones keep the device busy without graphs. The most useful shapes come first, and limits of time and memory end the
capture early: the other shapes then run kernel by kernel.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from ..frames import STRIDE
from ..requests import CacheHandle
from .cache import Pool
from .full_pass import PassEncoder
from .runners import GraphRunner
from .shapes import Shape
from .step import StepEncoder

MOST_GRAPHS: Final = 128
_REPORT_S: Final = 5.0  # between two lines of progress

log = logging.getLogger("xlsr_live.model")


class Limits(NamedTuple):
    """When to stop capturing. `memory` returns the bytes in use on the device."""

    memory: Callable[[], int]
    most_bytes: int  # that graphs may add
    most_s: float = 90.0
    most_graphs: int = MOST_GRAPHS
    clock: Callable[[], float] = time.monotonic


class Preparation(NamedTuple):
    """What to prepare."""

    steps: StepEncoder
    passes: PassEncoder | None
    runner: GraphRunner
    utterances: int
    max_batch: int
    most_samples: float  # of a batch of passes


def prepare(what: Preparation, handle: CacheHandle, *, hops: Sequence[int], recalls: bool, limits: Limits) -> None:
    """Reserve the pool of utterances like this one and capture the graphs. Raises `EngineError`.

    `hops` are the frames of new audio in steps, the usual number first. `recalls`: whether passes read cached features.
    """
    began, before = limits.clock(), limits.memory()
    pool = what.steps.caches.reserve(handle, what.utterances)
    log.info("room for %d utterances of %.1f MB", pool.slots - 1, pool.slot_bytes / 1e6)
    captures = list(_captures(what, pool, handle.lookahead, hops, recalls))
    base, reported = limits.memory(), began
    for done, capture in enumerate(captures):
        now, used = limits.clock(), limits.memory() - base
        if now - reported >= _REPORT_S:
            log.info("%d of %d CUDA graphs in %.0f s, %.2f GB", done, len(captures), now - began, used / 1e9)
            reported = now
        if done >= limits.most_graphs or now - began > limits.most_s or used > limits.most_bytes:
            log.warning("other shapes than these %d of %d run without a CUDA graph, slower", done, len(captures))
            break
        if not capture():
            return
    graphs, taken = what.runner.graphs, limits.memory()
    log.info(
        "%d CUDA graphs in %.1f s; they take %.2f GB, utterances %.2f GB",
        graphs,
        limits.clock() - began,
        (taken - base) / 1e9,
        (base - before) / 1e9,
    )


def _captures(
    what: Preparation, pool: Pool, lookahead: int, hops: Sequence[int], recalls: bool
) -> Iterator[Callable[[], bool]]:
    """Largest batches first in each group: the others reuse their memory."""
    batches = what.runner.batches(what.max_batch)[::-1]
    usual, *wider = hops

    def steps(hop: int) -> Iterator[Callable[[], bool]]:
        queries = _rounded(hop + lookahead)
        for size in batches:
            # The last step of an utterance keeps all its frames.
            yield partial(what.steps.prepare, pool, Shape(size, queries, _rounded(hop), queries), what.runner)

    yield from steps(usual)
    if what.passes:
        for shape in what.passes.shapes(batches, pool.shape.longest, what.most_samples / STRIDE, recalls=recalls):
            yield partial(what.passes.prepare, pool if recalls else None, shape, what.runner)
    for hop in wider:
        yield from steps(hop)


def _rounded(frames: int) -> int:
    """Up to a multiple of 8, as masks must be."""
    return -(-frames // 8) * 8
