"""The gate: from speech probabilities of short frames to spans of speech, as sample indices.

Four states. An onset needs `min_speech` of speech in a row; an end needs `hangover` without any. A span starts
`pre_roll` before its first speech frame and ends `post_roll` after its last one, never before the span before it ended.
A burst too short to open the gate belongs to the onset that follows it within `hangover`: a short first word is kept.
The gate passes indices, not samples, and is the only place that knows about pre-roll and hangover, so no delay is
counted twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class State(Enum):
    QUIET = auto()
    STARTING = auto()  # speech, but not yet for `min_speech`
    SPEAKING = auto()
    STOPPING = auto()  # a pause, but not yet for `hangover`


@dataclass(frozen=True, slots=True)
class Opened:
    start: int  # sample


@dataclass(frozen=True, slots=True)
class Closed:
    end: int  # sample


class Gate:
    """All durations in samples. `threshold` opens; it stays open down to 0.15 less (Silero's own hysteresis)."""

    def __init__(
        self, *, pre_roll: int, post_roll: int, min_speech: int, hangover: int, threshold: float = 0.5
    ) -> None:
        self.state = State.QUIET
        self._pre_roll = pre_roll
        self._post_roll = post_roll
        self._min_speech = min_speech
        self._hangover = hangover
        self._threshold = threshold
        self._onset = 0  # first sample of the speech that is starting
        self._first = 0  # first sample of the bursts that lead up to it
        self._last = -hangover  # end of the last speech frame
        self._floor = 0  # end of the span before
        self._heard = 0  # end of the last frame

    def receive(self, probability: float, start: int, end: int) -> Opened | Closed | None:
        """Take the speech probability of the frame `[start, end)`; frames follow each other without a gap."""
        self._heard = end
        is_open = self.state in (State.SPEAKING, State.STOPPING)
        speech = probability >= self._threshold - (0.15 if is_open else 0.0)
        match self.state, speech:
            case State.QUIET | State.STARTING, True:
                if self.state is State.QUIET:
                    self.state, self._onset = State.STARTING, start
                    if start - self._last >= self._hangover:
                        self._first = start
                self._last = end
                if end - self._onset >= self._min_speech:
                    self.state = State.SPEAKING
                    first = max(self._first, self._onset - self._reach)
                    return Opened(max(first - self._pre_roll, self._floor))
            case State.STARTING, False:
                self.state = State.QUIET
            case State.SPEAKING | State.STOPPING, True:
                self.state, self._last = State.SPEAKING, end
            case State.SPEAKING | State.STOPPING, False:
                self.state = State.STOPPING
                if end - self._last >= self._hangover:
                    return self._close(end)
            case _:
                pass
        return None

    def finish(self, position: int) -> Closed | None:
        """End the open span, if any, because the client says so or the input ended at sample `position`."""
        closed = self._close(position) if self.state in (State.SPEAKING, State.STOPPING) else None
        self.state, self._floor = State.QUIET, position
        return closed

    def limit(self, position: int) -> int:
        """Sample up to which the audio surely belongs to the open span, given audio up to `position`."""
        return min(position, self._last + self._post_roll)

    @property
    def likely_end(self) -> int | None:
        """In the last third of the hangover, when most pauses between words are over: where the span ends unless speech
        resumes."""
        waiting = self.state is State.STOPPING and 3 * (self._heard - self._last) >= 2 * self._hangover
        return self._last + self._post_roll if waiting else None

    @property
    def keep(self) -> int:
        """How far back from now an onset may still reach, in samples."""
        return self._pre_roll + self._reach + self._min_speech

    @property
    def _reach(self) -> int:
        """How far before an onset an earlier burst may begin to be part of it."""
        return self._min_speech + self._hangover

    def _close(self, position: int) -> Closed:
        end = self.limit(position)
        self.state, self._floor, self._last = State.QUIET, end, end - self._hangover
        return Closed(end)
