"""Which frames to encode next.

The steps of an utterance lie on a fixed grid of audio time: step `k` reads the first `(k + 1) * hop` frames, commits
all but the last `lookahead` of them, and sees `left_context` frames before those it commits. The grid depends on the
audio alone, never on packets or clocks, so the same audio gives the same steps. Under overload one step may take
several hops at once (see `overload`).
"""

from __future__ import annotations

from ..frames import frames, span
from ..requests import Window


class WindowPlanner:
    """Plans one utterance's steps; all lengths in frames. No step reads beyond the whole hops within `longest`."""

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
        self._encoded = 0

    @property
    def due(self) -> int:
        """Samples of the utterance that the next step of one hop needs."""
        return span(self._newest + self._hop)

    @property
    def left(self) -> int | None:
        """Hops that may still be planned; None without a limit."""
        return None if self._last is None else max(0, self._last - self._newest) // self._hop

    def ready(self, samples: int) -> int:
        """Unplanned hops for which the utterance's first `samples` samples suffice."""
        hops = max(0, frames(samples) - self._newest) // self._hop
        return hops if self.left is None else min(hops, self.left)

    def step(self, hops: int = 1) -> Window:
        """Plan the next step, over that many hops."""
        self._newest += hops * self._hop
        return self._window(max(self._committed, self._newest - self._lookahead))

    def plan(self, samples: int) -> list[Window]:
        """Plan steps of one hop as far as the utterance's first `samples` samples suffice, oldest first."""
        return [self.step() for _ in range(self.ready(samples))]

    def finish(self, samples: int) -> Window | None:
        """Plan the last step of an utterance of `samples` samples: it commits the rest. None if nothing is left."""
        self._newest = frames(samples)
        return self._window(self._newest) if self._newest > self._committed else None

    def _window(self, commit: int) -> Window:
        first = max(0, self._committed - self._left_context)
        window = Window(self._step, first, self._committed, commit, self._newest, self._encoded)
        self._step += 1
        self._committed, self._encoded = commit, self._newest
        return window
