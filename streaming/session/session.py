"""One stream, sans-I/O: no socket, thread, clock or torch. `help(Session)` says how to drive it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..audio.decoder import RESAMPLER_DELAY, AudioDecoder
from ..audio.normalize import EPSILON
from ..audio.segmenter import Segmenter
from ..audio.vad import Vad
from ..captions.punctuation import Punctuate, punctuate_pauses
from ..config import LOOKAHEAD_MS, AudioFormat, Mode, Origin, SessionConfig
from ..ctc.assets import Assets
from ..ctc.languages import LanguageSet
from ..ctc.vocabulary import Vocabulary
from ..errors import BacklogFull, ConfigError, SessionClosed
from ..frames import FIELD, SAMPLE_RATE, seconds, too_short
from ..overload import Level
from ..protocol.events import Error, Event, SessionEnded, SessionMoved, SessionStarted, Warning
from ..requests import CacheHandle, Job
from .decodings import Decodings
from .outbox import Outbox
from .safe_sample import SafeSample
from .utterance_loop import UtteranceLoop

Float32 = NDArray[np.float32]

_LIVE_PACE = 1.5  # audio that comes faster than this many times real time is not urgent


class Session:
    """One stream without any I/O. Its driver brings audio and answers, and takes jobs and events.

        receive_audio(packet, now)          then take requests() and events()
        receive_eof(now)                    likewise; the last event will be SessionEnded
        requests()                          jobs to do now; answer each, in any order, with one of
        receive_answer(id, answer, now)     then take requests() and events() again
        receive_failure(id, why, now)       likewise
        events()                            events since the last call

    The simplest driver, with an encoder that answers at once and raw audio of the declared format:

        session = Session(encoder.vocabulary, vad=make_vad("webrtc"), normalized=encoder.normalized)
        while not session.ended:
            if packet := audio.read(3_200):
                session.receive_audio(packet, time.monotonic())
            else:
                session.receive_eof(time.monotonic())
            while jobs := session.requests():
                for job in jobs:
                    (answer,) = encoder.encode([job.samples])
                    session.receive_answer(job.id, answer, time.monotonic())
            for event in session.events():
                print(event)

    A job is a `Request` to encode samples; its answer is log-probabilities, (frames of the request, vocabulary). With
    hotwords, a grammar or a language model there are also `DecodeJob`s: the answer is what `job.run()` returns, in any
    thread. In cached mode, live requests (those with a `CachedStep`) go to `encoder.encode_steps`, in their order, and
    `released()` returns the cache handles that no later request names. `abandon()` ends the session at once.

    `now` is any clock in seconds that never goes back; it only enters `lag_ms` and deadlines. Everything else depends
    on the audio alone: packets, the order of answers and other sessions change no event. A session finishes one
    utterance before it begins the next, so the order of events is fixed too. Only `receive_level` changes what partials
    show; it does not change finals.

    `vad` is this stream's own detector (`make_vad`), None for no gate; `normalized` and `epsilon` are those of the
    checkpoint's feature extractor. `modes` are those that the encoder can serve, best first; the first is the default.
    `lookahead_ms` is the model's, for settings without one. Raises `ConfigError` if the settings name another mode.
    `assets` is for `Decoding`, `level` for `receive_level`.

    With a multilingual checkpoint `languages` are those that utterances may have; then `vocabulary` and `assets` are
    unused, and each request names a language. With several languages, the first requests of each utterance have the
    kind "identify".

    `punctuate` makes the `display_text` of finals, in another thread if it is a model.

    With an `origin` the session continues one that began on another server: its first sample, its utterance numbers and
    its times continue from there. Raises `ConfigError` for an origin that cannot be.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: SessionConfig | None = None,
        audio: AudioFormat | None = None,
        *,
        vad: Vad | None,
        normalized: bool = True,
        epsilon: float = EPSILON,
        modes: Sequence[Mode] = ("window", "offline"),
        lookahead_ms: int = LOOKAHEAD_MS,
        name: str = "",
        model: str = "",
        assets: Assets | None = None,
        languages: LanguageSet | None = None,
        level: Level = Level.NORMAL,
        origin: Origin | None = None,
        punctuate: Punctuate = punctuate_pauses,
    ) -> None:
        config, audio, begin = config or SessionConfig(), audio or AudioFormat(), origin or Origin()
        mode = config.mode or modes[0]
        if mode not in modes:
            raise ConfigError(f"mode {mode!r} does not work with this checkpoint; it allows {', '.join(modes)}")
        # Without a gate only the client ends utterances, and the greatest length.
        trailing = 0 if vad is None else config.trailing_blank_ms
        if config.lookahead_ms is not None:
            lookahead_ms = config.lookahead_ms
        self.config = msgspec.structs.replace(config, mode=mode, trailing_blank_ms=trailing, lookahead_ms=lookahead_ms)
        self.name = name
        self._decodings = Decodings(languages or LanguageSet({None: (vocabulary, assets or Assets())}), self.config)
        self._audio = AudioDecoder(audio)
        start, final_end = begin.at(audio.sample_rate)
        self._first = begin.sample
        self._final_end = final_end
        self._safe = SafeSample(audio.sample_rate, begin.sample, start)
        self._front = Segmenter(self.config, vad, start=start, final_end=final_end)
        self._outbox = Outbox(level)
        opening = SessionStarted if origin is None else SessionMoved
        self._outbox.emit(opening(session=name, model=model, mode=mode), 0)
        if origin is None:
            self._report_notes(0)
        else:  # its client has these warnings
            self._decodings.take_notes()
        self._utterances = UtteranceLoop(
            self.config,
            self._decodings,
            self._front,
            self._outbox,
            begin,
            normalized=normalized,
            epsilon=epsilon,
            punctuate=punctuate,
        )
        self._live_time = float("-inf")  # when the received audio would have come at live pace
        self._eof = False
        self._ended = False

    # ── the verbs ──

    def receive_audio(self, packet: bytes | NDArray[np.floating], now: float) -> None:
        """Take a packet of the declared format, or float samples (n,) or (n, channels) at the declared rate.

        Raises `AudioError` for bad samples and `BacklogFull` where `can_take` says no; both refuse the whole packet.
        """
        self._check_open()
        if not self.can_take(packet):
            raise BacklogFull("too much audio waits for the encoder; send this packet again after its next answer")
        samples = self._audio.receive(packet)
        self._outbox.now = now
        self._append(samples)
        self._settle()

    def receive_flush(self, now: float) -> None:
        """The client marks the end of an utterance: finish it without waiting for silence."""
        self._check_open()
        self._outbox.now = now
        self._append(self._audio.flush())
        self._front.finish("flush")
        self._safe.flushed(self._first + self._audio.received, self._front.position)
        self._settle()

    def receive_eof(self, now: float) -> None:
        """End of input: finish the open utterance. A second call does nothing."""
        if self._eof:
            return
        self._eof = True
        self._outbox.now = now
        self._append(self._audio.flush())
        if held := self._audio.held_bytes:
            self._error("truncated_sample", f"the audio ended inside a sample: {held} byte(s) ignored")
        if 0 < self._front.position < FIELD:
            self._error("audio_too_short", too_short(self._front.position))
        self._front.finish("end")
        self._settle()

    def requests(self) -> list[Job]:
        """Jobs since the last call, oldest first. Some may become useless later: see `wants`."""
        jobs, self._utterances.jobs = self._utterances.jobs, []
        return [job for job in jobs if self.wants(job.id)]

    def receive_answer(self, job: int, answer: object, now: float) -> None:
        """Take the answer to a job: log-probabilities, (frames, vocabulary), or what a `DecodeJob` returned."""
        self._outbox.now = now
        if self._utterances.wants(job):
            self._utterances.receive(job, answer)
            self._settle()

    def receive_failure(self, job: int, why: str, now: float) -> None:
        """A job failed. The utterance goes on with the other results: its final is never lost."""
        self._outbox.now = now
        if self._utterances.wants(job):
            self._error("encoder_failed", f"{why}; this utterance goes on with the other results")
            self._utterances.fail(job)
            self._settle()

    def receive_hotwords(self, hotwords: Sequence[str]) -> None:
        """Replace the hotwords: in live steps that end after the audio so far, and in finals of utterances that end
        after it. Raises `ConfigError`; then the earlier ones stay.
        """
        self._check_open()
        self._decodings.set_hotwords(hotwords, self._front.position)
        self._settings_changed()

    def receive_grammar(self, grammar: str) -> None:
        """Replace the grammar of commands from here on, as `receive_hotwords`; an empty one has none.

        Compiles it, unless `commands.matcher.compiled` has done so. Raises `GrammarError`.
        """
        self._check_open()
        self._decodings.set_grammar(grammar, self._front.position)
        self._settings_changed()

    def receive_languages(self, languages: LanguageSet) -> None:
        """Choose the languages of utterances whose speech begins from here on; an open one keeps its own.

        Raises `ConfigError` where hotwords or grammar do not fit them; then the earlier ones stay.
        """
        self._check_open()
        self._decodings.set_languages(languages, self._front.position)
        self._settings_changed()

    def receive_level(self, level: Level) -> None:
        """Set how much the service gives up from now on. Call it before audio and answers."""
        self._outbox.level = level

    def events(self) -> list[Event]:
        """Events since the last call, in order."""
        return self._outbox.drain()

    # ── questions of the driver ──

    def wants(self, job: int) -> bool:
        """Whether the answer to a job still matters."""
        return self._utterances.wants(job)

    def released(self) -> list[CacheHandle]:
        """Cache handles, since the last call, that no later request names."""
        released, self._utterances.released = self._utterances.released, []
        return released

    def abandon(self) -> None:
        """End the session at once: no more jobs or events; releases the encoder's cache."""
        self._eof = self._ended = True
        self._utterances.drop()

    def check_audio(self, packet: bytes | NDArray[np.floating]) -> None:
        """Raise the error that `receive_audio` would raise for bad samples; for callers that split packets."""
        self._check_open()
        self._audio.check(packet)

    def can_take(self, packet: bytes | NDArray[np.floating]) -> bool:
        """Whether there is room for the packet, and for the audio inside the resampler."""
        return self._audio.most(packet) + RESAMPLER_DELAY <= self._front.room

    @property
    def languages(self) -> LanguageSet:
        """Those of utterances from here on."""
        return self._decodings.newest.languages

    @property
    def vocabulary(self) -> Vocabulary | None:
        """That of utterances from here on; None if they may have one of several languages."""
        return self.languages.only

    @property
    def grammar(self) -> str:
        """That of utterances from here on; empty if there is none."""
        return self._decodings.grammar

    @property
    def received_s(self) -> float:
        """Seconds of audio received."""
        return seconds(self._front.position)

    @property
    def safe(self) -> int:
        """The sample at the client's rate from which another server can continue the session, by its events so far."""
        spans = self._front.spans
        return self._safe.at(spans[0].start if spans else self._front.quiet_until)

    @property
    def quiet_s(self) -> float:
        """Seconds of audio examined without speech that is not in the events yet; 0 while an utterance is open."""
        return seconds(self._front.quiet_until)

    @property
    def ended(self) -> bool:
        """Whether there was a SessionEnded."""
        return self._ended

    @property
    def dropped(self) -> int:
        """Samples that were accepted and lost: 0, or there is a fault."""
        return self._front.ring.dropped

    @property
    def unfinished(self) -> int:
        """Samples of utterances that have not ended: `abandon` would lose them."""
        return self._front.unfinished

    # ── how it works ──

    def _check_open(self) -> None:
        if self._eof:
            raise SessionClosed("the input of this session has ended")

    def _append(self, samples: Float32) -> None:
        self._front.receive(samples)
        if len(samples):
            self._outbox.arrived(self._front.position)
            # A recording sent at full speed must not delay people who speak live. Audio with finals needs no encoder.
            new = min(len(samples), max(0, self._front.position - self._final_end))
            self._live_time = max(self._outbox.now, self._live_time + new / SAMPLE_RATE / _LIVE_PACE)

    def _settle(self) -> None:
        """Do all that is possible now."""
        while self._utterances.advance(max(self._outbox.now, self._live_time)):
            pass
        if not self._front.spans:
            self._end()
        self._front.release()
        self._outbox.forget(self._front.ring.start)

    def _end(self) -> None:
        if self._eof and not self._ended:
            self._ended = True
            end = self._front.position
            self._outbox.emit(SessionEnded(audio_s=seconds(end), utterances=self._utterances.begun), end)

    def _settings_changed(self) -> None:
        # A client may change settings all the time in silence, when no utterance drops the earlier ones.
        self._decodings.forget(self._front.ring.start)
        self._report_notes(self._front.position)

    def _report_notes(self, sample: int) -> None:
        """Warn about words that the vocabulary writes with other letters."""
        if notes := self._decodings.take_notes():
            self._outbox.emit(Warning(code="respelled", message="; ".join(notes)), sample)

    def _error(self, code: str, message: str) -> None:
        self._outbox.emit(Error(code=code, message=message), self._front.position)
