"""Drives a session without clock or threads, and checks the invariants of its events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from xlsr_live.streaming.audio.normalize import normalize
from xlsr_live.streaming.audio.segmenter import Segmenter
from xlsr_live.streaming.audio.vad import Vad, make_vad
from xlsr_live.streaming.captions.punctuation import Punctuate, punctuate_pauses
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.greedy import confidence, decode
from xlsr_live.streaming.ctc.languages import LanguageSet
from xlsr_live.streaming.frames import FIELD, STRIDE, seconds
from xlsr_live.streaming.protocol.events import (
    Command,
    Error,
    Event,
    Final,
    LanguageIdentified,
    Partial,
    Rejected,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
    Word,
    to_json,
)
from xlsr_live.streaming.requests import CachedStep, CacheHandle, DecodeJob, Job, Request
from xlsr_live.streaming.session.session import Session

from tests.support.fakes import FakeEncoder, LoudVad

Float32 = NDArray[np.float32]
FLUSH = "flush"
MODES = ("window", "cached", "offline")
T = TypeVar("T", bytes, Float32)
Packet = bytes | NDArray[np.floating] | str | tuple[str, ...] | LanguageSet  # audio, FLUSH, a grammar, hotwords, ...


@dataclass
class Driver:
    """Feeds packets and answers jobs: immediately and in order or, with `random`, at any time and in any order."""

    session: Session
    encoder: FakeEncoder
    random: Random | None = None
    fails: Callable[[Request], bool] = lambda request: False
    events: list[Event] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)
    ring_peak: int = 0
    steps: dict[int, Float32] = field(
        default_factory=dict
    )  # answers to cached steps: computed in order, delivered in any order
    memories: set[CacheHandle] = field(default_factory=set)

    def run(self, packets: Iterable[Packet]) -> list[Event]:
        for packet in packets:
            self.feed(packet)
        self.session.receive_eof(0.0)
        self.collect()
        while self.waiting:
            self.answer()
        ring = self.session._front.ring
        assert self.session.ended
        assert ring.dropped == 0
        assert not self.memories, "a cache was never released"
        return self.events

    def feed(self, packet: Packet) -> None:
        if isinstance(packet, str):
            if packet == FLUSH:
                self.session.receive_flush(0.0)
            else:
                self.session.receive_grammar(packet)
        elif isinstance(packet, LanguageSet):
            self.session.receive_languages(packet)
        elif isinstance(packet, tuple):
            self.session.receive_hotwords(packet)
        else:
            while not self.session.can_take(packet):
                assert self.waiting, "a full session has no open job"
                self.answer()
            self.session.receive_audio(packet, 0.0)
        self.collect()
        while self.waiting and (self.random is None or self.random.random() < 0.3):
            self.answer()

    def answer(self) -> None:
        at = self.random.randrange(len(self.waiting)) if self.random else 0
        job = self.waiting.pop(at)
        step = self.steps.pop(job.id, None)
        if self.random is None and not self.session.wants(job.id):
            return  # otherwise the late answer must have no effect
        if isinstance(job, DecodeJob):
            try:
                answer = job.run()
            except RuntimeError as error:
                self.session.receive_failure(job.id, str(error), 0.0)
            else:
                self.session.receive_answer(job.id, answer, 0.0)
        elif self.fails(job):
            self.session.receive_failure(job.id, "it broke", 0.0)
        else:
            rows = self.encoder.rows(job.samples, job.language) if step is None else step
            self.session.receive_answer(job.id, rows, 0.0)
        self.collect()

    def collect(self) -> None:
        jobs = self.session.requests()
        for job in jobs:
            if isinstance(job, Request) and job.reuse is not None:
                self.memories.add(job.reuse.cache)
                if isinstance(job.reuse, CachedStep):
                    (self.steps[job.id],) = self.encoder.encode_steps([(job.samples, job.reuse)])
        for memory in self.session.released():
            self.memories.discard(memory)
            self.encoder.release(memory.number)
        self.waiting += jobs
        assert len(self.events) < 5_000, "endless events"
        self.events += self.session.events()
        ring = self.session._front.ring
        self.ring_peak = max(self.ring_peak, ring.end - ring.start)


def run(
    packets: Iterable[Packet],
    config: SessionConfig | None = None,
    *,
    audio: AudioFormat | None = None,
    vad: Vad | str | None = "loud",
    encoder: FakeEncoder | None = None,
    random: Random | None = None,
    fails: Callable[[Request], bool] = lambda request: False,
    assets: Assets | None = None,
    languages: LanguageSet | None = None,
    punctuate: Punctuate = punctuate_pauses,
) -> list[Event]:
    """Events of a session. `vad` "loud" is the fake one, "real" the one that the settings name."""
    config, encoder = config or SessionConfig(), encoder or FakeEncoder()
    detector = LoudVad() if vad == "loud" else make_vad(config.vad) if vad == "real" else vad
    assert not isinstance(detector, str)
    session = Session(
        encoder.vocabulary,
        config,
        audio,
        vad=detector,
        normalized=encoder.normalized,
        modes=MODES,
        name="s",
        assets=assets,
        languages=languages,
        punctuate=punctuate,
    )
    return Driver(session, encoder, random, fails).run(packets)


def timeless(events: Iterable[Event]) -> list[Event]:
    """Events without lag and level."""
    return [
        event if isinstance(event, SessionStarted) else msgspec.structs.replace(event, lag_ms=0.0, level=0)
        for event in events
    ]


def lines(events: list[Event]) -> str:
    return "\n".join(to_json(event) for event in events)


def pieces(data: T, sizes: Iterable[int]) -> list[T]:
    """`data` in packets of these sizes, then the rest."""
    packets, at = [], 0
    for size in sizes:
        packets.append(data[at : at + size])
        at += size
        if at >= len(data):
            return packets
    return [*packets, data[at:]]


@dataclass
class UtteranceEvents:
    """The events of one utterance."""

    index: int
    start: int  # sample
    end: int = -1
    reason: str = ""
    partials: list[Partial] = field(default_factory=list)
    final: Final | None = None
    decision: Command | Rejected | None = None
    language: LanguageIdentified | None = None


def utterances(events: list[Event]) -> list[UtteranceEvents]:
    """Check the order of events and the rules for all events. Times must fall on milliseconds."""
    assert isinstance(events[0], SessionStarted)
    assert isinstance(events[-1], SessionEnded)
    audio_s = events[-1].audio_s
    done: list[UtteranceEvents] = []
    now: UtteranceEvents | None = None
    for event in events[1:-1]:
        match event:
            case SpeechStarted():
                assert now is None
                assert event.utterance == len(done)
                now = UtteranceEvents(event.utterance, round(event.start * 16_000))
                assert now.start >= (done[-1].end if done else 0)
            case LanguageIdentified():
                assert now is not None
                assert (now.index, now.start) == (event.utterance, round(event.start * 16_000))
                assert now.language is None
                assert not now.partials
                assert now.final is None
                now.language = event
            case Partial():
                assert now is not None
                assert now.index == event.utterance
                assert now.final is None
                now.partials.append(event)
            case Final():
                assert now is not None
                assert now.index == event.utterance
                assert now.final is None
                assert now.decision is None or getattr(now.decision, "early", False)
                assert event.text
                now.final = event
            case Command() | Rejected():
                assert now is not None
                assert now.index == event.utterance
                assert now.decision is None
                now.decision = event
                if isinstance(event, Command):
                    assert now.final is None or not event.early
                    assert event.text == " ".join(word.word for word in event.words)
                    _check_words(event.words, now.start / 16_000, event.audio_s)
            case SpeechEnded():
                assert now is not None
                assert now.index == event.utterance
                now.end, now.reason = round(event.end * 16_000), event.reason
                assert now.start < now.end <= round(audio_s * 16_000)
                _check_utterance(now)
                done.append(now)
                now = None
            case Error():
                pass
            case _:
                raise AssertionError(f"{event} in the middle of a session")
    assert now is None
    assert events[-1].utterances == len(done)
    return done


def _check_utterance(utterance: UtteranceEvents) -> None:
    committed: list[str] = []
    audio_s = 0.0
    shown: tuple[Word, ...] = ()
    for partial in utterance.partials:
        assert partial.words != shown, "a partial without news"
        shown = partial.words
        words = [word.word for word in partial.words if word.committed]
        assert words[: len(committed)] == committed, "committed text was changed"
        assert [word.committed for word in partial.words] == [True] * len(words) + [False] * (
            len(partial.words) - len(words)
        )
        assert partial.committed == " ".join(words)
        assert partial.volatile == " ".join(word.word for word in partial.words[len(words) :])
        assert partial.audio_s >= audio_s
        committed, audio_s = words, partial.audio_s
        _check_words(partial.words, utterance.start / 16_000, partial.audio_s)
    if utterance.final is not None:
        assert utterance.final.text == " ".join(word.word for word in utterance.final.words)
        assert (round(utterance.final.start * 16_000), round(utterance.final.end * 16_000)) == (
            utterance.start,
            utterance.end,
        )
        assert 0 < utterance.final.confidence <= 1
        assert all(word.committed for word in utterance.final.words)
        _check_words(utterance.final.words, utterance.final.start, utterance.final.end)


def _check_words(words: tuple[Word, ...], start: float, end: float) -> None:
    at = start
    for word in words:
        assert word.word
        assert at <= word.start < word.end <= end
        assert 0 < word.confidence <= 1
        at = word.end


def expected_final(utterance: UtteranceEvents, samples: Float32, encoder: FakeEncoder) -> Final | None:
    """The final of one full pass over exactly the utterance's samples."""
    audio = samples[utterance.start : utterance.end]
    words = decode(encoder.rows(normalize(audio) if encoder.normalized else audio), encoder.vocabulary)
    if not words:
        return None

    def at(frame: int) -> float:
        return seconds(utterance.start + frame * STRIDE)

    return Final(
        utterance=utterance.index,
        text=encoder.vocabulary.join(word.text for word in words),
        words=tuple(Word(w.text, at(w.start), at(w.end), round(w.confidence, 3)) for w in words),
        start=seconds(utterance.start),
        end=seconds(utterance.end),
        confidence=round(confidence(words), 3),
    )


def gate_spans(samples: Float32, config: SessionConfig, vad: Vad | None, flushes: Iterable[int] = ()) -> list[range]:
    """Spans `[start, end)` in which the gate is open, by the segmenter alone."""
    front = Segmenter(config, vad)
    spans: list[range] = []

    def receive(start: int, end: int) -> None:
        for at in range(start, end, 1_600):
            front.receive(samples[at : min(at + 1_600, end)])
            while front.spans and front.spans[0].end is not None:
                spans.append(range(front.spans[0].start, front.spans.popleft().end or 0))
            if front.spans and front.position - front.ring.start > 320_000:
                front.ring.discard(front.position - 160_000)  # of an open span, only the indices matter here
            elif not front.spans:
                front.release()

    at = 0
    for flush in flushes:
        receive(at, flush)
        front.finish("flush")
        at = flush
    receive(at, len(samples))
    front.finish("end")
    spans += [range(s.start, s.end or 0) for s in front.spans]
    return [span for span in spans if len(span) >= FIELD]


def check_coverage(utterances: list[UtteranceEvents], spans: list[range]) -> None:
    """Every sample of a span belongs to exactly one utterance, except a rest shorter than a frame."""
    left = list(utterances)
    for span in spans:
        at = span.start
        while left and left[0].start < span.stop:
            assert left[0].start == at
            at = left.pop(0).end
        assert 0 <= span.stop - at < FIELD
    assert not left
