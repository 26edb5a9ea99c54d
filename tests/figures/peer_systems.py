"""The recognizers that `peers.py` compares. Each plays one stream on the clock of its audio, or takes it as a whole.

A step begins when its last sample is spoken and takes the CPU time that it needs here, so that other load on the
machine does not delay it. Recognizers without streaming have their usual loop: Whisper that of whisper_streaming
(`local_agreement.py`), PocketSphinx that of its example `live.py` (github.com/cmusphinx/pocketsphinx).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from xlsr_live.streaming import Final, Partial, Recognizer, SessionConfig

from tests.figures.local_agreement import LocalAgreement, Timed, speech_spans
from tests.support.audio_clock import RATE, AudioClock

Float32 = NDArray[np.float32]

CORES = 2  # of the machine. A step of Whisper is as fast as if it used them all without loss
LEAD_S = 0.3  # audio before the detected speech that Whisper gets
STEP_S = 1.0  # whisper_streaming's default: new audio for each step
ROUND_S = 0.1  # PocketSphinx is asked for its text this often
WHISPER = {"language": "en", "beam_size": 5}  # the defaults of faster-whisper and of whisper_streaming


class Told(NamedTuple):
    """A word of the final text, and when it was certain. Seconds of the stream."""

    word: str
    end: float  # by the recognizer's own times
    committed: float


@dataclass(slots=True)
class PeerRun:
    """What one recognizer did with one stream. `finals` and `first` stay empty if it was given the whole recording."""

    words: list[Told] = field(default_factory=list[Told])
    first: float | None = None  # seconds at which any text was on the screen
    finals: list[float] = field(default_factory=list[float])  # seconds at which a final with words came
    cpu_s: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(told.word for told in self.words)

    def show(self, at: float) -> None:
        self.first = at if self.first is None else self.first

    def finish(self, at: float) -> None:
        self.show(at)
        self.finals.append(at)


class Peer(Protocol):
    """A recognizer in one way of use."""

    def __call__(self, samples: Float32) -> PeerRun:
        """Recognize 16 kHz samples, (n,)."""
        ...


class MissingPeer(Exception):
    """A recognizer is not installed. The message says how to install it."""


# ── xlsr-live ──


class OwnLive:
    """xlsr-live with its default settings."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer

    def __call__(self, samples: Float32) -> PeerRun:
        played = AudioClock(self._recognizer, SessionConfig()).play(samples)
        run, committed = PeerRun(cpu_s=played.cpu_s), list[float]()  # times of the committed words of this utterance
        for at, event in played.events:
            if isinstance(event, Partial) and event.words:
                run.show(at)
                count = sum(word.committed for word in event.words)
                committed += [at] * (count - len(committed))
            elif isinstance(event, Final):
                run.finish(at)
                times = [*committed[: len(event.words)], *[at] * (len(event.words) - len(committed))]
                run.words += [Told(w.word, w.end, when) for w, when in zip(event.words, times, strict=True)]
                committed = []
        return run


class OwnOffline:
    """xlsr-live with one pass over the whole recording."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer

    def __call__(self, samples: Float32) -> PeerRun:
        started = time.process_time()
        final = self._recognizer.offline(samples, SessionConfig())
        words = [Told(w.word, w.end, w.end) for w in final.words] if final else []
        return PeerRun(words, cpu_s=time.process_time() - started)


# ── faster-whisper ──


class WhisperLive:
    """A step each second over the audio since the last cut, LocalAgreement-2, a last step after 0.5 s of silence."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._free = 0.0  # when the last step has ended
        self._run = PeerRun()

    def __call__(self, samples: Float32) -> PeerRun:
        self._run, self._free = PeerRun(), 0.0
        started = time.process_time()
        spans = speech_spans(samples)
        self._run.cpu_s += time.process_time() - started
        for start, end, known in spans:
            state = LocalAgreement(max(0.0, start - LEAD_S))
            taken = state.offset
            while (at := max(self._free, taken + STEP_S)) < known:
                taken = at
                self._step(state, samples, at, min(at, len(samples) / RATE))
            self._step(state, samples, max(self._free, known), end + LEAD_S)
            rest = state.finish()
            self._take(rest)
            if state.committed:
                self._run.finish(self._free)
        return self._run

    def _step(self, state: LocalAgreement, samples: Float32, at: float, until: float) -> None:
        """Transcribe the audio since the last cut at the time `at`."""
        started = time.process_time()
        audio = samples[round(state.offset * RATE) : round(until * RATE)]
        found, _ = self._model.transcribe(audio, initial_prompt=state.prompt, word_timestamps=True, **WHISPER)
        segments = list(found)
        words = [Timed(word.start, word.end, word.word) for segment in segments for word in segment.words]
        cost = time.process_time() - started
        self._run.cpu_s += cost
        self._free = at + cost / CORES
        self._take(state.receive(words, [segment.end for segment in segments], len(audio) / RATE))
        if words:
            self._run.show(self._free)

    def _take(self, words: list[Timed]) -> None:
        self._run.words += [Told(word.text.strip(), word.end, self._free) for word in words]


class WhisperOffline:
    """Whisper over the whole recording, without or with faster-whisper's VAD filter."""

    def __init__(self, model: Any, vad_filter: bool) -> None:
        self._model = model
        self._vad_filter = vad_filter

    def __call__(self, samples: Float32) -> PeerRun:
        started = time.process_time()
        segments, _ = self._model.transcribe(samples, vad_filter=self._vad_filter, **WHISPER)
        words = [Told(word, segment.end, segment.end) for segment in segments for word in segment.text.split()]
        return PeerRun(words, cpu_s=time.process_time() - started)


# ── PocketSphinx ──


class SphinxLive:
    """PocketSphinx with its own endpointer, acoustic model, dictionary and language model (all defaults)."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._decoder = module.Decoder(samprate=float(RATE), loglevel="FATAL")

    def __call__(self, samples: Float32) -> PeerRun:
        run, now = PeerRun(), 0.0
        endpointer = self._module.Endpointer(sample_rate=RATE)
        pcm = (samples * 32_767).astype("<i2").tobytes()
        asked = 0.0
        for at in range(0, len(pcm) - endpointer.frame_bytes + 1, endpointer.frame_bytes):
            spoken = (at + endpointer.frame_bytes) / 2 / RATE
            started = time.thread_time()
            before = endpointer.in_speech
            speech = endpointer.process(pcm[at : at + endpointer.frame_bytes])
            final = False
            if speech is not None:
                if not before:
                    self._decoder.start_utt()
                self._decoder.process_raw(speech)
                if final := not endpointer.in_speech:
                    self._decoder.end_utt()
            shown = bool(speech) and (final or spoken >= asked + ROUND_S) and self._decoder.hyp() is not None
            asked = spoken if shown else asked
            cost = time.thread_time() - started
            run.cpu_s += cost
            now = max(now, spoken) + cost
            if shown and self._decoder.hyp().hypstr:
                run.show(now)
            if final:
                self._take(run, now, endpointer.speech_start)
        if endpointer.in_speech:
            self._decoder.end_utt()
            self._take(run, now, endpointer.speech_start)
        return run

    def _take(self, run: PeerRun, now: float, start: float) -> None:
        """The words of the utterance that ended; <s>, <sil> and [NOISE] are none."""
        said = [part for part in self._decoder.seg() if part.word[0] not in "<["]
        run.words += [Told(part.word.partition("(")[0], start + part.end_frame / 100, now) for part in said]
        if said:
            run.finish(now)


# ── all of them ──


@contextmanager
def open_peers(names: list[str], whisper: str) -> Generator[dict[str, Peer | MissingPeer]]:
    """The recognizers with these names, in this order. One that is not installed has the reason in its place."""
    with Recognizer.load(device="cpu", threads=1, adaptive=False) as recognizer:
        shared: dict[str, Any] = {}

        def load(key: str, make: Callable[[], Any]) -> Any:
            """Whisper's three ways share one model."""
            if key not in shared:
                shared[key] = make()
            return shared[key]

        makers: dict[str, Callable[[], Peer]] = {
            "xlsr-live": lambda: OwnLive(recognizer),
            "xlsr-live, offline": lambda: OwnOffline(recognizer),
            "whisper": lambda: WhisperLive(load("whisper", lambda: _whisper(whisper))),
            "whisper, offline": lambda: WhisperOffline(load("whisper", lambda: _whisper(whisper)), False),
            "whisper, offline, VAD filter": lambda: WhisperOffline(load("whisper", lambda: _whisper(whisper)), True),
            "pocketsphinx": lambda: SphinxLive(_import("pocketsphinx")),
        }
        yield {name: _made(makers[name]) for name in names}


def _made(make: Callable[[], Peer]) -> Peer | MissingPeer:
    try:
        return make()
    except MissingPeer as missing:
        return missing


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.replace("_", "-")
        raise MissingPeer(f"{package} is not installed: pip install {package}") from error


def _whisper(model: str) -> Any:
    """The model in int8. One thread: the CPU time of a step is then the same whatever else runs."""
    module = _import("faster_whisper")
    return module.WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=1)
