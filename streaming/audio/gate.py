"""The gate turns speech probabilities of short frames into spans of speech, as sample indices.

A span opens after `min_speech` of uninterrupted speech and closes after `hangover` without speech. It starts `pre_roll`
before its first speech frame, but not inside the previous span, and ends `post_roll` after its last speech frame. A
burst too short to open the gate belongs to a burst or an onset that follows within `hangover`. This keeps up to two
short first words. Only the gate applies pre-roll and hangover, so no delay counts twice.

With adaptive endpointing each pause gets its own hangover. After the shortest possible one the gate stops (`ASKING`)
and takes no frame until the caller gives evidence to `decide`. Late evidence delays the gate but does not change its
decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from .pauses import PauseEvidence, Pauses

_WORDS: Final = 2  # short words before an onset that belong to it
HYSTERESIS: Final = 0.15  # Silero's own: an open gate closes this far below the threshold
_NO_EVIDENCE: Final = PauseEvidence()


class GateState(Enum):
    """Where the gate is between silence and speech."""

    QUIET = auto()
    STARTING = auto()  # speech, but not yet for `min_speech`
    SPEAKING = auto()
    STOPPING = auto()  # a pause, but not yet for its hangover
    ASKING = auto()  # a pause whose hangover `decide` must choose


@dataclass(frozen=True, slots=True)
class Opened:
    """The gate opened: an utterance starts at this sample, pre-roll included."""

    start: int  # sample


@dataclass(frozen=True, slots=True)
class Closed:
    """The gate closed: the utterance ends at this sample, post-roll included."""

    end: int  # sample


class Gate:
    """All durations are in samples. With `pauses` each pause gets its own hangover; `hangover` then only joins short
    bursts. The first frame begins at sample `start`.
    """

    def __init__(
        self,
        *,
        pre_roll: int,
        post_roll: int,
        min_speech: int,
        hangover: int,
        threshold: float = 0.5,
        pauses: Pauses | None = None,
        start: int = 0,
    ) -> None:
        self.state = GateState.QUIET
        self._pre_roll = pre_roll
        self._post_roll = post_roll
        self._min_speech = min_speech
        self._hangover = hangover
        self._threshold = threshold
        self._adaptive = pauses is not None
        self._pauses = pauses or Pauses(least=2 * hangover // 3, most=hangover, margin=post_roll)
        self._closing: int | None = None  # hangover of this pause; None until it is decided
        self._evidence = _NO_EVIDENCE  # on this pause
        self._spoken: int | None = None  # end of the last speech frame in a span; None after a flush
        self._onset = start  # first sample of the current run of speech frames
        self._first = start  # first sample of the bursts that lead up to it
        self._last_speech = start - hangover  # end of the last speech frame
        self._last_span = start  # end of the previous span
        self._end = start  # of the last frame

    def receive(self, probability: float, start: int, end: int) -> Opened | Closed | None:
        """Take the speech probability of the frame `[start, end)`; frames follow each other without a gap.

        Call `decide` first if the state is `ASKING`.
        """
        assert self.state is not GateState.ASKING
        self._end = end
        is_open = self.state in (GateState.SPEAKING, GateState.STOPPING)
        speech = probability >= self._threshold - (HYSTERESIS if is_open else 0.0)
        match self.state:
            case GateState.QUIET | GateState.STARTING if speech:
                if self.state is GateState.QUIET:
                    self.state, self._onset = GateState.STARTING, start
                    if start - self._last_speech >= self._hangover:
                        self._first = start
                self._last_speech = end
                if end - self._onset >= self._min_speech:
                    first = max(self._first, self._onset - self._burst_reach)
                    self._speak(first, end)
                    return Opened(max(first - self._pre_roll, self._last_span))
            case GateState.STARTING:
                self.state = GateState.QUIET
            case GateState.SPEAKING | GateState.STOPPING if speech:
                self._speak(start, end)
            case GateState.SPEAKING | GateState.STOPPING:
                return self._stop()
            case _:
                pass
        return None

    def decide(self, evidence: PauseEvidence) -> Closed | None:
        """Choose the hangover of the pause for which the state is `ASKING`."""
        assert self.state is GateState.ASKING
        self._evidence, self._closing = evidence, self._pauses.hangover(evidence)
        return self._stop()

    def finish(self, position: int) -> Closed | None:
        """Close the open span, if any, because of a flush or the end of the input at sample `position`."""
        closed = self._close(position) if self.state in (GateState.SPEAKING, GateState.STOPPING) else None
        self.state, self._last_span, self._spoken = GateState.QUIET, position, None
        return closed

    def limit(self, position: int) -> int:
        """Sample up to which audio certainly belongs to the open span, given audio up to `position`."""
        return min(position, self._last_speech + self._post_roll)

    @property
    def last_speech(self) -> int:
        """End of the last speech frame."""
        return self._last_speech

    @property
    def likely_end(self) -> int | None:
        """The end of the span unless speech resumes: while the gate asks for it, and in the last third of the hangover
        if the pause is more likely to end the span than not. Else None.
        """
        silence = self._end - self._last_speech
        late = self.state is GateState.STOPPING and self._closing is not None and 3 * silence >= 2 * self._closing
        if self.state is GateState.ASKING or (late and self._pauses.odds(silence, self._evidence) >= 1):
            return self._last_speech + self._post_roll
        return None

    def quiet_until(self, position: int) -> int:
        """Sample before which no later span has speech, if the gate is closed and has seen all audio to `position`."""
        if self.state is GateState.QUIET and position - self._last_speech >= self._hangover:
            return position
        onset = self._onset if self.state is GateState.STARTING else position
        return max(self._first, onset - self._burst_reach)

    @property
    def keep(self) -> int:
        """How far back from now a span may still start, in samples."""
        return self._pre_roll + self._burst_reach + self._min_speech

    @property
    def _burst_reach(self) -> int:
        """How far before an onset a burst may start and still belong to it."""
        return _WORDS * (self._min_speech + self._hangover)

    def _speak(self, start: int, end: int) -> None:
        if self._spoken is not None and start > self._spoken:
            self._pauses.receive(start - self._spoken)
        self.state, self._last_speech, self._spoken = GateState.SPEAKING, end, end
        self._evidence, self._closing = _NO_EVIDENCE, None if self._adaptive else self._hangover

    def _stop(self) -> Closed | None:
        """Close after the hangover of this pause; ask for it after the least one."""
        silence = self._end - self._last_speech
        if self._closing is not None and silence >= self._closing:
            return self._close(self._end)
        asks = self._closing is None and silence >= self._pauses.least
        self.state = GateState.ASKING if asks else GateState.STOPPING
        return None

    def _close(self, position: int) -> Closed:
        end = self.limit(position)
        self.state, self._last_span, self._last_speech = GateState.QUIET, end, end - self._hangover
        return Closed(end)
