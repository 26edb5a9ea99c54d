"""The front end of a session: 16 kHz audio into the ring, through the detector and the gate, out as spans of speech."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..config import SessionConfig
from ..errors import BacklogFull
from ..frames import ms, seconds
from .gate import Closed, Gate, Opened
from .ring import AudioRing
from .vad import FRAME, Vad

Float32 = NDArray[np.float32]
Reason = Literal["silence", "blanks", "length", "flush", "end"]

_RUN_AHEAD = ms(30_000)  # audio that may wait while the encoder is busy, beside the longest utterance


@dataclass(slots=True)
class Span:
    """Audio in which the gate was open. `end` is None while it still is."""

    start: int
    end: int | None = None
    reason: Reason = "silence"


class FrontEnd:
    """`vad` None means no gate: a span is open from the first sample until `finish`, and again with the next."""

    def __init__(self, config: SessionConfig, vad: Vad | None) -> None:
        self.ring = AudioRing(ms(config.max_utterance_ms) + _RUN_AHEAD)
        self.spans: deque[Span] = deque()  # oldest first; only the last may be open
        self._vad = vad
        self._gate = Gate(
            pre_roll=ms(config.pre_roll_ms),
            post_roll=ms(config.post_roll_ms),
            min_speech=ms(config.min_speech_ms),
            hangover=ms(config.hangover_ms),
            threshold=config.vad_threshold,
        )
        self._seen = 0  # samples that the detector has heard

    @property
    def position(self) -> int:
        """Samples received."""
        return self.ring.end

    @property
    def room(self) -> int:
        """Samples that may be received now without losing any that are still needed."""
        return self.ring.capacity - (self.ring.end - self.ring.start)

    def receive(self, samples: Float32) -> None:
        """Take 16 kHz mono audio, shape (n,). Raises `BacklogFull`, taking nothing, if `room` is less."""
        if len(samples) > self.room:
            raise BacklogFull(
                f"{seconds(self.ring.end - self.ring.start):.1f} s of audio wait for the encoder; "
                f"no room for {seconds(len(samples)):.1f} s more"
            )
        if self._vad is None and self._open is None and len(samples):
            self.spans.append(Span(self.position))
        self.ring.append(samples)
        if self._vad is not None:
            self._detect(self._vad)

    @property
    def unfinished(self) -> int:
        """Samples in spans."""
        return sum((self.position if span.end is None else span.end) - span.start for span in self.spans)

    def finish(self, reason: Reason) -> None:
        """End the open span here: the client says so, or the input is over."""
        closed = Closed(self.position) if self._vad is None else self._gate.finish(self.position)
        self._close(closed, reason)
        self._seen = self.position

    def known(self, span: Span) -> int:
        """Sample up to which the audio surely belongs to the span."""
        if span.end is not None:
            return span.end
        return self.position if self._vad is None else self._gate.limit(self.position)

    def likely_end(self, span: Span) -> int | None:
        """Where the span ends, or during the hangover would end; None while speech goes on."""
        if span.end is not None:
            return span.end
        end = self._gate.likely_end
        return end if end is not None and end <= self.position else None

    def release(self) -> None:
        """Let go of audio that nobody needs: all before the oldest span, or before a possible onset."""
        onset = self._seen - self._gate.keep
        self.ring.discard(min(onset, self.spans[0].start) if self.spans else onset)

    @property
    def _open(self) -> Span | None:
        return self.spans[-1] if self.spans and self.spans[-1].end is None else None

    def _detect(self, vad: Vad) -> None:
        count = (self.position - self._seen) // FRAME
        if not count:
            return
        heard = self.ring.read(self._seen, self._seen + count * FRAME)
        for probability in vad(heard.reshape(count, FRAME)):
            start, self._seen = self._seen, self._seen + FRAME
            match self._gate.receive(probability, start, self._seen):
                case Opened(start=start):
                    self.spans.append(Span(start))
                case Closed() as closed:
                    self._close(closed, "silence")
                case None:
                    pass

    def _close(self, closed: Closed | None, reason: Reason) -> None:
        span = self._open
        if span is not None and closed is not None:
            span.end, span.reason = max(span.start, closed.end), reason
