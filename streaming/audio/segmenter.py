"""Splits 16 kHz audio into spans of speech: stores it in the ring and runs detector and gate on it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import SessionConfig
from ..errors import BacklogFull
from ..frames import ms, seconds
from .gate import Closed, Gate, GateState, Opened
from .normalize import Moments
from .pauses import PauseEvidence, Pauses
from .ring import AudioRing
from .vad import FRAME, Vad

Float32 = NDArray[np.float32]
Reason = Literal["silence", "blanks", "length", "flush", "end"]

_BACKLOG = ms(30_000)  # audio that may wait for the encoder, besides the longest utterance
_ROUNDING = ms(1)  # of `final_end`: events have seconds with three decimals
_FINAL_KEPT = ms(12_000)  # of an utterance that has its final, for its loudness


@dataclass(slots=True)
class Span:
    """Audio while the gate is open, in samples. `end` is None until the gate closes."""

    start: int
    end: int | None = None
    reason: Reason = "silence"


class _Frame(NamedTuple):
    """A frame of the detector that waits for the gate."""

    start: int  # sample
    probability: float


class _Finish(NamedTuple):
    """A `finish` that waits for the gate."""

    position: int  # sample
    reason: Reason


class Segmenter:
    """Without a `vad` a span opens with the first sample, and again with the first sample after each `finish`.

    With adaptive endpointing the gate stops in each pause: `paused` is then true, and the caller must call `decide`.
    Until then new frames and calls of `finish` wait.

    The first sample has the index `start`. Speech before `final_end` has its final: no span begins there, and one that
    goes on begins at `final_end`.
    """

    def __init__(self, config: SessionConfig, vad: Vad | None, *, start: int = 0, final_end: int = 0) -> None:
        self.ring = AudioRing(ms(config.max_utterance_ms) + _BACKLOG, start)
        self.spans: deque[Span] = deque()  # oldest first; only the last may be open
        self.loudness: Moments | None = None  # of the newest speech before `final_end`
        self._vad = vad
        self._final_end = final_end
        self._finished: int | None = None  # start of speech before `final_end`, while the gate is open
        self._gate = _make_gate(config, start)
        self.lead = 0 if vad is None else ms(config.pre_roll_ms)  # samples of a span before its first speech, at most
        self._detected = start  # sample up to which the detector has come
        self._examined = start  # sample up to which the gate has come
        self._waiting: deque[_Frame | _Finish] = deque()  # for the gate

    @property
    def position(self) -> int:
        """Sample up to which there is audio."""
        return self.ring.end

    @property
    def room(self) -> int:
        """Samples that fit now without dropping any."""
        return self.ring.capacity - (self.ring.end - self.ring.start)

    @property
    def quiet_until(self) -> int:
        """Sample before which no speech of a later span starts; 0 while there are spans."""
        if self.spans:
            return 0
        return self.position if self._vad is None else self._gate.quiet_until(self._examined)

    @property
    def unfinished(self) -> int:
        """Samples in spans."""
        return sum((self.position if span.end is None else span.end) - span.start for span in self.spans)

    def receive(self, samples: Float32) -> None:
        """Take 16 kHz mono audio, shape (n,). Raises `BacklogFull` and takes nothing if `room` is less."""
        if len(samples) > self.room:
            raise BacklogFull(
                f"{seconds(self.ring.end - self.ring.start):.1f} s of audio are waiting for the encoder; "
                f"there is no room for {seconds(len(samples)):.1f} s more"
            )
        begin = max(self.position, self._final_end)
        if self._vad is None and self._open is None and self.position + len(samples) > begin:
            self.spans.append(Span(begin))
        self.ring.append(samples)
        if self._vad is not None:
            self._detect(self._vad)

    def finish(self, reason: Reason) -> None:
        """End the open span here, because of a flush or the end of the input."""
        if self._vad is None:
            self._close(Closed(self.position), reason)
            return
        self._detected = self.position
        self._waiting.append(_Finish(self.position, reason))
        self._advance()

    @property
    def paused(self) -> bool:
        """Whether the gate asks how long the pause must last; the span is the last one, and ends at `likely_end` if
        the pause ends it.
        """
        return self._gate.state is GateState.ASKING

    def decide(self, evidence: PauseEvidence) -> None:
        """Let the gate go on after a pause, with what the recognizer finds about it."""
        self._close(self._gate.decide(evidence), "silence")
        self._advance()

    def known(self, span: Span) -> int:
        """Sample up to which audio certainly belongs to the span."""
        if span.end is not None:
            return span.end
        return self.position if self._vad is None else self._gate.limit(self.position)

    def likely_end(self, span: Span) -> int | None:
        """The end of the span, or during the hangover its likely end; None while speech continues."""
        if span.end is not None:
            return span.end
        end = self._gate.likely_end
        return end if end is not None and end <= self.position else None

    def release(self) -> None:
        """Discard audio before the oldest span, or before the earliest possible onset."""
        onset = self.position if self._vad is None else self._examined - self._gate.keep
        if self._finished is not None:
            onset = min(onset, max(self._finished, self._examined - _FINAL_KEPT))
        self.ring.discard(min(onset, self.spans[0].start) if self.spans else onset)

    @property
    def _open(self) -> Span | None:
        return self.spans[-1] if self.spans and self.spans[-1].end is None else None

    def _detect(self, vad: Vad) -> None:
        count = (self.position - self._detected) // FRAME
        if not count:
            return
        frames = self.ring.read(self._detected, self._detected + count * FRAME).reshape(count, FRAME)
        for probability in vad(frames):
            if self.paused:
                self._waiting.append(_Frame(self._detected, probability))
            else:  # nothing waits
                self._examine(self._detected, probability)
            self._detected += FRAME

    def _advance(self) -> None:
        """Let the gate take what waits, up to a pause in which it asks."""
        while self._waiting and not self.paused:
            match self._waiting.popleft():
                case _Finish(position, reason):
                    self._examined = position
                    self._close(self._gate.finish(position), reason)
                case _Frame(start, probability):
                    self._examine(start, probability)

    def _examine(self, start: int, probability: float) -> None:
        self._examined = start + FRAME
        if (change := self._gate.receive(probability, start, self._examined)) is not None:
            self._change(change)
        if self._finished is not None and self._gate.last_speech > self._final_end:
            self._leave_finished(self._final_end)
            self.spans.append(Span(self._final_end))
        if self.paused and self._open is None:  # the speech has its final: this pause ended it, or did not
            end = self._gate.likely_end
            ended = end is not None and abs(end - self._final_end) < _ROUNDING
            self._close(self._gate.decide(PauseEvidence(inf if ended else -inf)), "silence")

    def _change(self, change: Opened | Closed) -> None:
        match change:
            case Opened(start=first) if first < self._final_end - _ROUNDING:
                self._finished = first
            case Opened(start=first):
                self.spans.append(Span(first))
            case Closed():
                self._close(change, "silence")

    def _leave_finished(self, end: int) -> None:
        """The speech before `final_end` is over."""
        assert self._finished is not None
        start = max(self._finished, self.ring.start)
        self.loudness = Moments().plus(self.ring.read(start, max(start, min(end, self._final_end))))
        self._finished = None

    def _close(self, closed: Closed | None, reason: Reason) -> None:
        if self._finished is not None and closed is not None:
            self._leave_finished(closed.end)
        span = self._open
        if span is not None and closed is not None:
            span.end, span.reason = max(span.start, closed.end), reason


def _make_gate(config: SessionConfig, start: int) -> Gate:
    post_roll, pauses = ms(config.post_roll_ms), None
    if config.endpointing == "adaptive":
        least = ms(config.least_hangover_ms)
        post_roll = min(post_roll, least)
        pauses = Pauses(least=least, most=ms(config.most_hangover_ms), margin=post_roll)
    return Gate(
        pre_roll=ms(config.pre_roll_ms),
        post_roll=post_roll,
        min_speech=ms(config.min_speech_ms),
        hangover=ms(config.hangover_ms),
        threshold=config.vad_threshold,
        pauses=pauses,
        start=start,
    )
