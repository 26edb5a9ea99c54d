"""One stream, sans-I/O: no socket, thread, clock or torch. `help(Session)` says how to drive it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import count

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..audio.decoder import RESAMPLER_DELAY, AudioDecoder
from ..audio.normalize import Moments
from ..audio.segmenter import Reason, Segmenter
from ..audio.vad import Vad
from ..commands.matcher import Decision
from ..config import AudioFormat, Mode, SessionConfig
from ..ctc.assets import Assets
from ..ctc.greedy import DecodedWord
from ..ctc.vocabulary import Vocabulary
from ..errors import BacklogFull, ConfigError, SessionClosed
from ..frames import FIELD, SAMPLE_RATE, STRIDE, ms, seconds, too_short
from ..overload import Level
from ..protocol.events import Error, Event, Partial, SessionEnded, SessionStarted, SpeechEnded, SpeechStarted
from ..requests import CacheHandle, Request
from .decoding import Decoding, Transcript
from .stabilizer import PartialStabilizer
from .to_events import report_decision, report_final, report_words
from .utterance import Found, Step, Utterance

Float32 = NDArray[np.float32]

_LIVE_PACE = 1.5  # audio that comes faster than this many times real time is in no hurry


class Session:
    """One stream without any I/O: it is told of audio and answers, and says what to encode and what has happened.

        receive_audio(packet, now)          then ask for requests() and events()
        receive_eof(now)                    likewise; the last event will be SessionEnded
        requests()                          what to encode now; answer each, in any order, with one of
        receive_logprobs(id, rows, now)     then ask for requests() and events() again
        receive_found(id, found, now)       likewise: where search(id) names a decoding that takes long
        receive_failure(id, why, now)       likewise
        events()                            what happened since the last call

    The simplest driver, with an encoder that answers at once and raw audio of the declared format:

        session = Session(encoder.vocabulary, vad=make_vad("webrtc"), normalized=encoder.normalized)
        while not session.ended:
            if packet := audio.read(3_200):
                session.receive_audio(packet, time.monotonic())
            else:
                session.receive_eof(time.monotonic())
            while requests := session.requests():
                for request in requests:
                    (rows,) = encoder.encode([request.samples])
                    session.receive_logprobs(request.id, rows, time.monotonic())
            for event in session.events():
                print(event)

    In cached mode live requests (those with a `CachedStep`) go to `encoder.encode_steps`, in their order, and
    `released()` returns the cache handles that no request will name again. `abandon()` drops the session where it
    stands.

    `now` is any clock in seconds that never goes back; it only enters `lag_ms` and deadlines. Everything else depends
    on the audio alone: packets, the order of answers and other sessions change no event. Utterances are worked on
    strictly one after the other, so the order of events is fixed too. Only `receive_level` changes what is told while
    somebody speaks; what finals say it does not change.

    `vad` is this stream's own detector (`make_vad`), None for no gate; `normalized` as the checkpoint's extractor says.

    `modes` are those that the encoder can serve, the best first: it is taken where the settings name none. Raises
    `ConfigError` if they name another. `assets` is what decoding may use, see `Decoding`; `level` as in
    `receive_level`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: SessionConfig | None = None,
        audio: AudioFormat | None = None,
        *,
        vad: Vad | None,
        normalized: bool = True,
        modes: Sequence[Mode] = ("window", "offline"),
        name: str = "",
        model: str = "",
        assets: Assets | None = None,
        level: Level = Level.NORMAL,
    ) -> None:
        config = config or SessionConfig()
        mode = config.mode or modes[0]
        if mode not in modes:
            raise ConfigError(f"mode {mode!r} does not work with this checkpoint; it allows {', '.join(modes)}")
        self.config = msgspec.structs.replace(config, mode=mode)
        self.name = name
        self._vocabulary = vocabulary
        self._decoding = Decoding(vocabulary, self.config, assets)
        self._normalized = normalized
        self._audio = AudioDecoder(audio or AudioFormat())
        self._front = Segmenter(self.config, vad)
        self._events: list[Event] = [SessionStarted(session=name, model=model, mode=mode, level=level)]
        self._requests: list[Request] = []
        self._released: list[CacheHandle] = []
        self._ids = count(1)
        self._utterance: Utterance | None = None  # the one being worked on
        self._begun = 0
        self._steady = PartialStabilizer(self.config)  # its partials
        self._loudness: Moments | None = None  # of the utterance before
        self._woken: int | None = None  # sample after the wake phrase, if no command has followed
        self._level = level
        self._now = 0.0
        self._played = float("-inf")  # when what was received would have come at the pace of live audio
        self._arrivals: list[tuple[int, float]] = []  # (sample, when everything before it was there)
        self._eof = False
        self._ended = False

    # ── the verbs ──

    def receive_audio(self, packet: bytes | NDArray[np.floating], now: float) -> None:
        """Take a packet of the declared format, or float samples (n,) or (n, channels) at the declared rate.

        Raises `AudioError` for bad samples and `BacklogFull` where `can_take` says no; the packet is refused whole.
        """
        self._check_open()
        if not self.can_take(packet):
            raise BacklogFull("too much audio waits for the encoder; send this packet again after its next answer")
        samples = self._audio.receive(packet)
        self._now = now
        self._hear(samples)
        self._settle()

    def receive_flush(self, now: float) -> None:
        """The client marks the end of an utterance: what was sent so far is finished without waiting for silence."""
        self._check_open()
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
        if held := self._audio.held_bytes:
            self._error("truncated_sample", f"the audio ended inside a sample: {held} byte(s) ignored")
        if 0 < self._front.position < FIELD:
            self._error("audio_too_short", too_short(self._front.position))
        self._front.finish("end")
        self._settle()

    def requests(self) -> list[Request]:
        """Requests since the last call, oldest first. Some may be withdrawn later: see `wants`."""
        requests, self._requests = self._requests, []
        return [request for request in requests if self.wants(request.id)]

    def receive_logprobs(self, request: int, rows: Float32, now: float) -> None:
        """The encoder's answer: log-probabilities, shape (frames of the request, vocabulary)."""
        self._now = now
        if self._utterance is not None and self._utterance.wants(request):
            self._take(self._utterance, self._utterance.receive(request, rows))

    def receive_found(self, request: int, found: Found, now: float) -> None:
        """The encoder's answer as the request's `search` has decoded it."""
        self._now = now
        if self._utterance is not None and self._utterance.wants(request):
            self._take(self._utterance, self._utterance.told(request, found))

    def receive_failure(self, request: int, why: str, now: float) -> None:
        """The encoder could not answer. The utterance goes on with what is known: its final is never lost."""
        self._now = now
        if self._utterance is not None and self._utterance.wants(request):
            self._error("encoder_failed", f"{why}; the utterance's text is made of what else was heard")
            self._utterance.fail(request)
            self._settle()

    def receive_hotwords(self, hotwords: Sequence[str]) -> None:
        """Listen for these instead of those before: in live steps that hear more than has come so far, and in finals of
        utterances that do not end before. Raises `ConfigError`; then those before stay.
        """
        self._check_open()
        self._decoding.set_hotwords(hotwords, self._front.position)

    def receive_grammar(self, grammar: str) -> None:
        """Listen for the commands of this one, none if it is empty, instead of the one before: as `receive_hotwords`
        says it. It is compiled here, unless that was done before (`commands.compiled`). Raises `GrammarError`.
        """
        self._check_open()
        self._decoding.set_grammar(grammar, self._front.position)

    def receive_level(self, level: Level) -> None:
        """How much the service gives up from now on; to be told before audio and answers."""
        self._level = level

    def events(self) -> list[Event]:
        """Events since the last call, in order."""
        events, self._events = self._events, []
        return events

    # ── what the edges ask ──

    def wants(self, request: int) -> bool:
        """Whether an answer to the request still matters."""
        return self._utterance is not None and self._utterance.wants(request)

    def search(self, request: int) -> Callable[[Float32], Found] | None:
        """How to decode the answer to a request where that takes long: in any thread, but one after the other, and to
        be told in that order. None where `receive_logprobs` need not be spared it.
        """
        return self._utterance.search(request) if self._utterance is not None else None

    def released(self) -> list[CacheHandle]:
        """Memories of the encoder, since the last call, that no request will name again."""
        released, self._released = self._released, []
        return released

    def abandon(self) -> None:
        """End the session here: nothing more is asked or told, and what the encoder remembers is released."""
        self._eof = self._ended = True
        self._forget()

    def check_audio(self, packet: bytes | NDArray[np.floating]) -> None:
        """Raise the error that `receive_audio` would raise but for room, if any; for callers that split packets."""
        self._check_open()
        self._audio.check(packet)

    def can_take(self, packet: bytes | NDArray[np.floating]) -> bool:
        """Whether there is room for the packet now; what the resampler holds back is provided for."""
        return self._audio.most(packet) + RESAMPLER_DELAY <= self._front.room

    @property
    def received_s(self) -> float:
        """Seconds of audio received."""
        return seconds(self._front.position)

    @property
    def ended(self) -> bool:
        """Whether SessionEnded has happened."""
        return self._ended

    @property
    def dropped(self) -> int:
        """Samples that were accepted and lost before they were heard."""
        return self._front.ring.dropped

    @property
    def unfinished(self) -> int:
        """Samples of utterances that have not ended: what `abandon` would lose."""
        return self._front.unfinished

    # ── how it works ──

    def _check_open(self) -> None:
        if self._eof:
            raise SessionClosed("the input of this session has ended")

    def _hear(self, samples: Float32) -> None:
        self._front.receive(samples)
        if len(samples):
            self._arrivals.append((self._front.position, self._now))
            # Who sends a recording as fast as it goes shall not come before those who speak.
            self._played = max(self._now, self._played + len(samples) / SAMPLE_RATE / _LIVE_PACE)

    def _take(self, utterance: Utterance, steps: Sequence[Step]) -> None:
        for step in steps:
            self._show(utterance, step)
            if step.decision is not None:
                self._decide(utterance, step.decision, step.heard)
        self._settle()

    def _settle(self) -> None:
        """Do all that can be done now."""
        while self._advance():
            pass
        self._front.release()
        del self._arrivals[: bisect_left(self._arrivals, (self._front.ring.start, float("-inf")))]

    def _advance(self) -> bool:
        """Begin the next utterance, or go on with the one that was begun; False when neither leads further yet."""
        spans, utterance = self._front.spans, self._utterance
        if not spans:
            self._end()
            return False
        first = spans[0]
        known = self._front.known(first)
        if utterance is None:
            if known - first.start >= FIELD:
                self._begin(first.start)
                return True
            if first.end is not None:  # too short to make a frame, as what a cut leaves can be
                spans.popleft()
                return True
            return False
        self._requests += utterance.plan(
            known=known,
            likely_end=self._front.likely_end(first),
            closed=first.end,
            now=max(self._now, self._played),
            level=self._level,
        )
        if utterance.end is None or (heard := utterance.heard) is None:
            return False
        self._finish(utterance, heard, utterance.end, first.reason)
        if utterance.cut is None:
            spans.popleft()
        else:
            first.start = utterance.end
        return True

    def _begin(self, start: int) -> None:
        self._utterance = Utterance(
            self._begun,
            start,
            self.config,
            self._decoding,
            read=self._front.ring.read,
            ids=self._ids,
            normalized=self._normalized,
            seed=self._loudness,
            level=self._level,
            awake=self._woken is not None and start - self._woken <= ms(self.config.wake_ms),
        )
        self._steady = PartialStabilizer(self.config)
        lag_ms = self._lag_ms(start)
        self._events.append(
            SpeechStarted(utterance=self._begun, start=seconds(start), lag_ms=lag_ms, level=self._level)
        )
        self._begun += 1

    def _finish(self, utterance: Utterance, heard: Transcript, end: int, reason: Reason) -> None:
        index, lag_ms, level = utterance.index, self._lag_ms(end), self._level
        final = report_final(
            heard, self._vocabulary, utterance=index, start=utterance.start, end=end, lag_ms=lag_ms, level=level
        )
        if final is not None:
            self._events.append(final)
        self._woken = None
        if (decision := utterance.decision(heard)) is not None:
            self._decide(utterance, decision, end)
            if not decision.accepted and decision.woken is not None:
                self._woken = utterance.start + decision.woken * STRIDE
        why = reason if utterance.cut is None else utterance.cut.reason
        self._events.append(SpeechEnded(utterance=index, end=seconds(end), reason=why, lag_ms=lag_ms, level=level))
        # Of the utterance alone, not of what was heard beyond its cut: that depends on when the encoder answered.
        self._loudness = Moments().plus(self._front.ring.read(utterance.start, end))
        self._forget()

    def _forget(self) -> None:
        if self._utterance is not None and self._utterance.cache is not None:
            self._released.append(self._utterance.cache)
        self._utterance = None

    def _decide(self, utterance: Utterance, decision: Decision, heard: int) -> None:
        """Tell what command it was, if any, as known from audio up to a sample."""
        event = report_decision(
            decision,
            utterance=utterance.index,
            start=utterance.start,
            heard=heard,
            lag_ms=self._lag_ms(heard),
            level=self._level,
        )
        self._events.append(event)

    def _show(self, utterance: Utterance, step: Step) -> None:
        """Turn a live step into a partial, if it has news."""
        if step.cut is not None or not self.config.shows_partials:
            return
        volatile = step.volatile if self._level < Level.COMMITTED else ()
        count, sure = len(step.committed), self._decoding.live((*step.committed, *volatile)).confidences
        words = (
            *report_words(step.committed, sure[:count], utterance.start),
            *report_words(volatile, sure[count:], utterance.start, committed=False),
        )
        if (shown := self._steady.show(words, step.heard)) is None:
            return
        self._events.append(
            Partial(
                utterance=utterance.index,
                committed=self._text(step.committed),
                volatile=self._text(volatile[: len(shown) - count]),
                words=shown,
                audio_s=seconds(step.heard),
                lag_ms=self._lag_ms(step.heard),
                level=self._level,
            )
        )

    def _end(self) -> None:
        if self._eof and not self._ended:
            self._ended = True
            end = self._front.position
            self._events.append(
                SessionEnded(audio_s=seconds(end), utterances=self._begun, lag_ms=self._lag_ms(end), level=self._level)
            )

    def _error(self, code: str, message: str) -> None:
        lag_ms = self._lag_ms(self._front.position)
        self._events.append(Error(code=code, message=message, lag_ms=lag_ms, level=self._level))

    def _text(self, words: Sequence[DecodedWord]) -> str:
        return self._vocabulary.join(word.text for word in words)

    def _lag_ms(self, sample: int) -> float:
        """Since the audio before `sample` was there."""
        if not self._arrivals:
            return 0.0
        at = bisect_left(self._arrivals, (sample, float("-inf")))
        return round((self._now - self._arrivals[min(at, len(self._arrivals) - 1)][1]) * 1000, 1)
