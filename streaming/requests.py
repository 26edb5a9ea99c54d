"""Which frames to encode next.

The steps of an utterance lie on a fixed grid of audio time: step `k` hears the first `(k + 1) * hop` frames, commits
all but the last `lookahead` of them, and sees `left_context` frames before what it commits. The grid depends on the
audio alone, never on packets or clocks, so the same audio gives the same steps. Under too much load one step may take
several hops at once (see `ladder`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from .frames import frames, span


@dataclass(frozen=True, slots=True)
class Window:
    """One step, in frames of the utterance: `first <= committed <= commit <= newest`.

    Frames before `committed` were final before this step, so what was computed for them may be reused; those in
    `[committed, commit)` become final with it; those in `[commit, newest)` are volatile. The steps before heard the
    frames before `heard`, which is not before `committed`.
    """

    step: int
    first: int  # oldest frame that this step hears
    committed: int
    commit: int
    newest: int
    heard: int

    @property
    def samples(self) -> tuple[int, int]:
        """Samples `[start, end)` of the utterance that make frames `[first, newest)` and no more."""
        return _samples(self.first, self.newest)

    @property
    def new_samples(self) -> tuple[int, int]:
        """Samples of the frames `[heard, newest)`: their first 80 belong to the frame before as well."""
        return _samples(self.heard, self.newest)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Memory:
    """Names what the encoder remembers of one utterance from step to step. Lengths in frames.

    No two are equal. What is remembered lasts as long as this object, or until it is released.
    """

    left_context: int
    lookahead: int
    longest: int = 1_000  # features of an utterance that gets longer are not remembered for its second pass
    number: int = field(default_factory=count(1).__next__, init=False)  # unique in the process


class Reuse(NamedTuple):
    """A step that goes on from what is remembered of the steps before: it brings only the window's new samples and is
    answered with the rows of frames `[committed, newest)`."""

    memory: Memory
    window: Window


class Recall(NamedTuple):
    """A whole pass that need not make features again: those of the utterance's first `heard` frames may be what is
    remembered under `memory`, if it is still there. For audio whose scale is that of the live steps."""

    memory: Memory
    heard: int


class WindowPlanner:
    """Plans one utterance's steps; all lengths in frames. No step hears more than the whole hops within `longest`."""

    def __init__(self, *, hop: int, lookahead: int, left_context: int, longest: int | None = None) -> None:
        if hop < 1 or lookahead < 0 or left_context < 0:
            raise ValueError("hop must be at least one frame, lookahead and left context not negative")
        self._hop = hop
        self._last = None if longest is None else longest // hop * hop
        self._lookahead = lookahead
        self._left_context = left_context
        self._step = 0
        self._newest = 0
        self._committed = 0
        self._heard = 0

    @property
    def due(self) -> int:
        """Samples of the utterance that the next step of one hop needs."""
        return span(self._newest + self._hop)

    @property
    def left(self) -> int | None:
        """Hops that may still be planned."""
        return None if self._last is None else max(0, self._last - self._newest) // self._hop

    def ready(self, samples: int) -> int:
        """Hops that the utterance's first `samples` samples allow, of those not yet planned."""
        hops = max(0, frames(samples) - self._newest) // self._hop
        return hops if self.left is None else min(hops, self.left)

    def step(self, hops: int = 1) -> Window:
        """The next step, over that many hops."""
        self._newest += hops * self._hop
        return self._window(max(self._committed, self._newest - self._lookahead))

    def plan(self, samples: int) -> list[Window]:
        """Steps of one hop that the utterance's first `samples` samples make due, oldest first."""
        return [self.step() for _ in range(self.ready(samples))]

    def finish(self, samples: int) -> Window | None:
        """The last step of an utterance of `samples` samples: commits all that is left; None if nothing is."""
        self._newest = frames(samples)
        return self._window(self._newest) if self._newest > self._committed else None

    def _window(self, commit: int) -> Window:
        first = max(0, self._committed - self._left_context)
        window = Window(self._step, first, self._committed, commit, self._newest, self._heard)
        self._step += 1
        self._committed, self._heard = commit, self._newest
        return window


def _samples(first: int, newest: int) -> tuple[int, int]:
    start = span(first + 1) - span(1)
    return start, start + span(newest - first)
