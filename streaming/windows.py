"""Which frames to encode next.

The steps of an utterance lie on a fixed grid of audio time: step `k` hears the first `(k + 1) * hop` frames, commits
all but the last `lookahead` of them, and sees `left_context` frames before what it commits. The grid depends on the
audio alone, never on packets, clocks or load, so the same audio gives the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from .frames import frames, span


@dataclass(frozen=True, slots=True)
class Window:
    """One step, in frames of the utterance: `first <= committed <= commit <= newest`.

    Frames before `committed` were final before this step, so what was computed for them may be reused; those in
    `[committed, commit)` become final with it; those in `[commit, newest)` are volatile.
    """

    step: int
    first: int  # oldest frame that this step hears
    committed: int
    commit: int
    newest: int

    @property
    def samples(self) -> tuple[int, int]:
        """Samples `[start, end)` of the utterance that make frames `[first, newest)` and no more."""
        start = span(self.first + 1) - span(1)
        return start, start + span(self.newest - self.first)


class WindowPlanner:
    """Plans one utterance's steps; all lengths in frames."""

    def __init__(self, *, hop: int, lookahead: int, left_context: int) -> None:
        if hop < 1 or lookahead < 0 or left_context < 0:
            raise ValueError("hop must be at least one frame, lookahead and left context not negative")
        self._hop = hop
        self._lookahead = lookahead
        self._left_context = left_context
        self._step = 0
        self._newest = 0
        self._committed = 0

    @property
    def due(self) -> int:
        """Samples of the utterance that the next step needs."""
        return span(self._newest + self._hop)

    def plan(self, samples: int) -> list[Window]:
        """Steps that the utterance's first `samples` samples make due, oldest first."""
        windows: list[Window] = []
        while self.due <= samples:
            self._newest += self._hop
            windows.append(self._window(max(self._committed, self._newest - self._lookahead)))
        return windows

    def finish(self, samples: int) -> Window | None:
        """The last step of an utterance of `samples` samples: commits all that is left; None if nothing is."""
        self._newest = frames(samples)
        return self._window(self._newest) if self._newest > self._committed else None

    def _window(self, commit: int) -> Window:
        first = max(0, self._committed - self._left_context)
        window = Window(self._step, first, self._committed, commit, self._newest)
        self._step += 1
        self._committed = commit
        return window
