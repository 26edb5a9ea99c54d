"""One stream, sans-I/O: five verbs, no socket, thread, clock or torch.

    session.receive_audio(packet, now)        then ask for requests() and events()
    session.receive_eof(now)                  likewise; the last event will be SessionEnded
    session.requests()                        what to encode now; answer each, in any order, with one of
    session.receive_logprobs(id, rows, now)   then ask for requests() and events() again
    session.receive_failure(id, why, now)     likewise
    session.events()                          what happened since the last call

`now` is any clock in seconds that never goes back; it only enters `lag_ms` and deadlines. Everything else depends on
the audio alone: packets, the order of answers and other sessions change no event. Utterances are worked on strictly
one after the other, so the order of events is fixed too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .audio import RESAMPLER_DELAY, AudioDecoder
from .config import AudioFormat, SessionConfig
from .decode import DecodedWord, confidence
from .endpoint import Cut
from .errors import BacklogFull, SessionClosed
from .events import Error, Event, Final, Partial, SessionEnded, SessionStarted, SpeechEnded, SpeechStarted, Word
from .frames import FIELD, STRIDE, frames, ms, seconds, span
from .front import FrontEnd, Reason, Span
from .normalize import Moments
from .utterance import Step, Utterance
from .vad import Vad
from .vocabulary import Vocabulary
from .windows import Window

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Audio to encode. The answer has one row of log-probabilities for every frame of `samples`."""

    id: int  # within the session
    kind: Literal["live", "final"]
    utterance: int
    samples: Float32  # (n,), 16 kHz, normalised as the checkpoint wants
    deadline: float  # on the caller's clock; finals are due at once
    window: Window | None  # of a live step: what it extends, and what was final before


@dataclass(slots=True)
class _Active:
    """The utterance being worked on, and what was asked for it."""

    index: int
    start: int  # sample
    work: Utterance
    live: dict[int, Window] = field(default_factory=dict[int, Window])  # unanswered, by request id
    final: int | None = None  # request id of the second pass
    final_end: int = -1  # sample up to which it was, or is being, encoded
    words: list[DecodedWord] | None = None  # of the final
    cut: Cut | None = None
    finished: bool = False  # the last live step was planned (finals="append")
    broken: bool = False  # a live step failed
    shown: tuple[Word, ...] = ()


class Session:
    """`vad` is this stream's own detector, None for no gate; `normalized` as the checkpoint's extractor says."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: SessionConfig | None = None,
        audio: AudioFormat | None = None,
        *,
        vad: Vad | None,
        normalized: bool = True,
        name: str = "",
        model: str = "",
    ) -> None:
        self.config = config or SessionConfig()
        self.name = name
        self._vocabulary = vocabulary
        self._normalized = normalized
        self._audio = AudioDecoder(audio or AudioFormat())
        self._front = FrontEnd(self.config, vad)
        self._events: list[Event] = [SessionStarted(session=name, model=model, mode=self.config.mode)]
        self._requests: list[Request] = []
        self._active: _Active | None = None
        self._begun = 0  # utterances
        self._ids = 0  # requests
        self._level: Moments | None = None  # of the utterances before
        self._now = 0.0
        self._arrivals: list[tuple[int, float]] = []  # (sample, when everything before it was there)
        self._eof = False
        self._ended = False

    # ── the five verbs ──

    def receive_audio(self, packet: bytes | NDArray[np.floating], now: float) -> None:
        """Take a packet of the declared format, or float samples (n,) or (n, channels) at the declared rate.

        Raises `AudioError` for bad samples and `BacklogFull` where `can_take` says no; the packet is refused whole.
        """
        if self._eof:
            raise SessionClosed("the input of this session has ended")
        self._now = now
        if not self.can_take(packet):
            raise BacklogFull("too much audio waits for the encoder; send this packet again after its next answer")
        self._hear(self._audio.receive(packet))
        self._settle()

    def receive_flush(self, now: float) -> None:
        """The client marks the end of an utterance: what was sent so far is finished without waiting for silence."""
        if self._eof:
            raise SessionClosed("the input of this session has ended")
        self._now = now
        self._hear(self._audio.flush())
        self._front.finish("flush")
        self._settle()

    def receive_eof(self, now: float) -> None:
        """End of input: the open utterance is finished. Calling it again does nothing."""
        if self._eof:
            return
        self._eof = True
        self._now = now
        self._hear(self._audio.flush())
        if self._audio.held_bytes:
            self._error(
                "truncated_sample", f"the audio ended inside a sample: {self._audio.held_bytes} byte(s) ignored"
            )
        if 0 < self._front.position < FIELD:
            self._error(
                "audio_too_short", f"{self._front.position} samples of audio at 16 kHz make no frame of {FIELD}"
            )
        self._front.finish("end")
        self._settle()

    def requests(self) -> list[Request]:
        """Requests since the last call, oldest first. Some may be withdrawn later: see `wants`."""
        requests, self._requests = self._requests, []
        return [request for request in requests if self.wants(request.id)]

    def receive_logprobs(self, request: int, rows: Float32, now: float) -> None:
        """The encoder's answer: log-probabilities, shape (frames of the request, vocabulary)."""
        active, self._now = self._active, now
        if active is None or not self.wants(request):
            return
        if request == active.final:
            active.words = active.work.final_words(rows)
        else:
            for step in active.work.receive(active.live.pop(request), rows):
                if active.cut is None:
                    self._show(active, step)
        self._settle()

    def receive_failure(self, request: int, why: str, now: float) -> None:
        """The encoder could not answer. The utterance goes on with what is known: its final is never lost."""
        active, self._now = self._active, now
        if active is None or not self.wants(request):
            return
        self._error("encoder_failed", why)
        if request == active.final:
            active.words = active.work.live_words(frames(active.final_end - active.start) + 1)
        else:
            active.broken = True
            active.live.clear()
        self._settle()

    def events(self) -> list[Event]:
        """Events since the last call, in order."""
        events, self._events = self._events, []
        return events

    # ── what the edges ask ──

    def wants(self, request: int) -> bool:
        """Whether an answer to the request still matters."""
        active = self._active
        return active is not None and (request in active.live or (request == active.final and active.words is None))

    def check_audio(self, packet: bytes | NDArray[np.floating]) -> None:
        """Raise the `AudioError` that `receive_audio` would raise, if any; for callers that split large packets."""
        self._audio.check(packet)

    def can_take(self, packet: bytes | NDArray[np.floating]) -> bool:
        """Whether there is room for the packet now; what the resampler holds back is provided for."""
        return self._audio.most(packet) + RESAMPLER_DELAY <= self._front.room

    @property
    def ended(self) -> bool:
        """Whether SessionEnded has happened."""
        return self._ended

    # ── how it works ──

    def _hear(self, samples: Float32) -> None:
        self._front.receive(samples)
        if len(samples):
            self._arrivals.append((self._front.position, self._now))

    def _settle(self) -> None:
        """Do all that can be done now."""
        while self._advance():
            pass
        self._front.release()
        del self._arrivals[: bisect_left(self._arrivals, (self._front.ring.start, float("-inf")))]

    def _advance(self) -> bool:
        """Begin the next utterance, or end the active one; False when neither is possible yet."""
        active, spans = self._active, self._front.spans
        if active is None:
            if not spans:
                self._end()
                return False
            if self._front.known(spans[0]) - spans[0].start >= FIELD:
                self._begin(spans[0])
                return True
            if spans[0].end is not None:  # too short to make a frame, as what a cut leaves can be
                spans.popleft()
                return True
            return False
        end = self._plan(active, spans[0])
        if end is None or active.live or active.words is None:
            return False
        self._finish(active, spans[0], end)
        return True

    def _begin(self, first: Span) -> None:
        work = Utterance(self.config, self._vocabulary, normalized=self._normalized, seed=self._level)
        self._active = _Active(self._begun, first.start, work)
        self._begun += 1
        self._events.append(SpeechStarted(utterance=self._active.index, start=seconds(first.start)))

    def _plan(self, active: _Active, first: Span) -> int | None:
        """Ask for what is due; return the utterance's end (sample) if it is known."""
        if active.cut is None and not active.broken:
            self._plan_live(active, self._front.known(first))
        if active.cut is not None:
            end = active.start + active.cut.frame * STRIDE
        elif active.broken and self._front.known(first) - active.start >= (longest := ms(self.config.max_utterance_ms)):
            active.cut = Cut(longest // STRIDE, "length")
            end = active.start + longest
        else:
            end = first.end
        if self.config.finals == "full":
            self._plan_final(active, self._front.likely_end(first) if end is None else end)
        elif end is not None:
            self._plan_append(active, end)
        return end

    def _plan_live(self, active: _Active, known: int) -> None:
        work, read = active.work, self._front.ring.read
        while active.start + work.due() <= known:
            samples = read(active.start + work.heard, active.start + work.due())
            for window in work.hear(samples):
                active.live[self._ask(active, "live", work.window_audio(window), window)] = window

    def _plan_final(self, active: _Active, end: int | None) -> None:
        """The second pass over the whole utterance; during the hangover at a guess, so that it is there in time."""
        if end is None or end == active.final_end:
            return
        active.final_end, active.words, active.final = end, None, None
        if frames(end - active.start) == 0:
            active.words = []
        else:
            audio = active.work.whole_audio(self._front.ring.read(active.start, end))
            active.final = self._ask(active, "final", audio, None)

    def _plan_append(self, active: _Active, end: int) -> None:
        """The final is what the live steps said; without a cut a last step commits what is left."""
        if active.cut is None and not active.finished and not active.broken:
            active.finished = True
            rest = self._front.ring.read(active.start + active.work.heard, end)
            window = active.work.finish(rest)
            if window is not None:
                active.live[self._ask(active, "live", active.work.window_audio(window), window)] = window
        if not active.live:
            active.words = active.work.live_words(frames(end - active.start) + 1)

    def _ask(self, active: _Active, kind: Literal["live", "final"], samples: Float32, window: Window | None) -> int:
        self._ids += 1
        deadline = self._now + (self.config.hop_ms / 1000 if kind == "live" else 0.0)
        self._requests.append(Request(self._ids, kind, active.index, samples, deadline, window))
        return self._ids

    def _show(self, active: _Active, step: Step) -> None:
        """Turn a live step into a partial, or into the end of the utterance."""
        if step.cut is not None:
            active.cut = step.cut
            active.live.clear()
            return
        words = (*self._words(active, step.committed, True), *self._words(active, step.volatile, False))
        if not self.config.partials or words == active.shown:
            return
        active.shown = words
        heard = active.start + span(step.window.newest)
        self._events.append(
            Partial(
                utterance=active.index,
                committed=self._text(step.committed),
                volatile=self._text(step.volatile),
                words=words,
                audio_s=seconds(heard),
                lag_ms=round((self._now - self._arrival(heard)) * 1000, 1),
            )
        )

    def _finish(self, active: _Active, first: Span, end: int) -> None:
        words = active.words or []
        if words:
            self._events.append(
                Final(
                    utterance=active.index,
                    text=self._text(words),
                    words=self._words(active, words, True),
                    start=seconds(active.start),
                    end=seconds(end),
                    confidence=round(confidence(words), 3),
                )
            )
        reason: Reason = active.cut.reason if active.cut else first.reason
        self._events.append(SpeechEnded(utterance=active.index, end=seconds(end), reason=reason))
        # Of the utterance alone, not of what was heard beyond its cut: that depends on when the encoder answered.
        self._level = Moments().plus(self._front.ring.read(active.start, end))
        self._active = None
        if active.cut is None:
            self._front.spans.popleft()
        else:
            first.start = end

    def _end(self) -> None:
        if self._eof and not self._ended:
            self._ended = True
            self._events.append(SessionEnded(audio_s=seconds(self._front.position), utterances=self._begun))

    def _error(self, code: str, message: str) -> None:
        self._events.append(Error(code=code, message=message))

    def _text(self, words: Sequence[DecodedWord]) -> str:
        return self._vocabulary.join(word.text for word in words)

    def _words(self, active: _Active, words: Sequence[DecodedWord], committed: bool) -> tuple[Word, ...]:
        def at(frame: int) -> float:
            return seconds(active.start + frame * STRIDE)

        return tuple(Word(w.text, at(w.start), at(w.end), round(w.confidence, 3), committed) for w in words)

    def _arrival(self, sample: int) -> float:
        at = bisect_left(self._arrivals, (sample, float("-inf")))
        return self._arrivals[min(at, len(self._arrivals) - 1)][1]
