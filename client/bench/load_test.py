"""A load test: trials of paced streams on one recognizer or server, configured by the options of a command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...streaming.config import AudioFormat
from ...streaming.errors import ConfigError, XlsrLiveError
from ...streaming.frames import SAMPLE_RATE
from ...streaming.protocol.events import Final
from ..console import waiting
from ..options.model import load_recognizer, take_model_options
from ..options.server import read_token
from ..options.session import session_config
from ..output.latency import Latencies, latencies, percentiles, word_end
from ..output.progress import progress
from ..remote.pcm import encode
from ..remote.websocket import connect
from . import corpus
from .alignment import AlignedWords, end_of, read_alignment
from .resources import ResourceMeter
from .streams import Int16, OpenSession, Playlist, Trial, TrialPlan, run_trial

MAX_RECORDINGS = 200  # held in memory; --limit overrides it
FREED_S = 2.0  # until a full server counts as full: it frees the place of an ended session a moment later
CALM_S = 60.0  # before a trial, for the overload of the previous one to end

Transcribe = Callable[[NDArray[np.float32]], list[Final]]  # finals of 16 kHz samples, (n,)


class Verification(NamedTuple):
    """Number of finals that equal those of the same audio alone."""

    equal: int  # finals with the same words, times and confidences
    total: int


class Outcome(NamedTuple):
    """A trial with its latencies."""

    trial: Trial
    latencies: Latencies

    @property
    def level(self) -> int:
        """The highest overload level in the measured time; 0 is normal."""
        since, until = self.trial.since, self.trial.until
        events = (event for log in self.trial.streams for at, event in log.events if since <= at < until)
        return max((getattr(event, "level", 0) for event in events), default=0)

    def within(self, bound: float, moment: str) -> bool:
        """Whether all streams completed and the moment's p95 is under the bound (seconds)."""
        found = percentiles(getattr(self.latencies, moment))
        return self.trial.problem is None and found["count"] > 0 and found["p95"] < bound

    def report(self) -> dict[str, Any]:
        """All results, for JSON."""
        return {
            "plan": self.trial.plan,
            "problem": self.trial.problem,
            "level": self.level,
            "seconds": self.latencies.report(),
            "load": self.trial.usage.report(self.trial.plan.streams),
        }


class LoadTest:
    """Runs trials. `settings` are common to all of them, for the report."""

    def __init__(
        self,
        playlist: Playlist,
        open_session: OpenSession,
        *,
        pid: int | None,
        aligned: Sequence[AlignedWords],
        settings: Any,
        transcribe: Transcribe | None,
        level: Callable[[], int],
    ) -> None:
        self.settings: dict[str, Any] = settings
        self._level = level
        self._transcribe = transcribe
        self._playlist = playlist
        self._open_session = open_session
        self._pid = pid
        self._aligned = aligned

    @property
    def name(self) -> str:
        """Of the model, or of the server that runs it."""
        return self.settings["url"] or self.settings["model"].name

    def run(self, plan: TrialPlan) -> Outcome:
        """Run one trial. Raises `XlsrLiveError` if no stream started, or if all completed without a word."""
        late = time.monotonic() + CALM_S
        while self._level() and time.monotonic() < late:  # the overload of the previous trial
            time.sleep(0.5)
        with progress(round(plan.warm_up + plan.seconds)) as (advance, _):
            meter = ResourceMeter(self._pid)
            trial = asyncio.run(run_trial(plan, self._playlist, self._open_session, meter, advance))
        if trial.problem and not any(log.events for log in trial.streams):
            raise XlsrLiveError(trial.problem)
        found = Latencies()
        for number, log in enumerate(trial.streams):
            end = end_of(self._aligned, self._playlist, number) if self._aligned else word_end
            found.extend(latencies(log, since=trial.since, until=trial.until, end_of=end))
        if not found.committed and trial.problem is None:
            raise XlsrLiveError("no words in the measured time: use longer --seconds or other recordings")
        return Outcome(trial, found)

    def verify(self, outcome: Outcome) -> Verification:
        """Compare every final with that of the same audio alone. Raises `ConfigError` on a server."""
        if self._transcribe is None:
            raise ConfigError("--verify needs the recognizer in this process: omit --url")
        plan, equal, total = outcome.trial.plan, 0, 0
        size = plan.packet_ms * SAMPLE_RATE // 1000
        with progress(plan.streams) as (advance, _):
            for number, log in enumerate(outcome.trial.streams):
                finals = [event for _, event in log.events if isinstance(event, Final)]
                audio = b"".join(self._playlist.packets(number, size, plan.samples(number)))
                expected = self._transcribe(np.frombuffer(audio, "<i2").astype(np.float32) / np.float32(32_768))
                equal += sum(one == other for one, other in zip(finals, expected, strict=False))
                total += max(len(finals), len(expected))
                advance()
        return Verification(equal, total)


@contextmanager
def open_load_test(options: dict[str, Any]) -> Generator[LoadTest]:
    """The load test of a command's options. Raises `XlsrLiveError`."""
    url: str | None = options["url"]
    pid: int | None = options["pid"]
    if pid and not url:
        raise ConfigError("--pid needs --url; without a server the CPU time is that of this process")
    config, token, audio = session_config(options), read_token(options["token_file"]), AudioFormat()
    where, limit, alignment = options["where"], options["limit"] or MAX_RECORDINGS, options["alignment"]
    recordings = corpus.spoken(corpus.read_corpus(options["data"], where=where, limit=limit))
    aligned = read_alignment(alignment, recordings) if alignment else []
    with waiting("reading the recordings"):
        samples = [read_int16(recording) for recording in recordings]
    settings = {
        "data": str(options["data"] or "packaged clips"),
        "recordings": len(samples),
        "silence": options["silence"],
        "alignment": str(alignment) if alignment else "times of the finals",
        "config": msgspec.to_builtins(config),
        "url": url,
    }
    transcribe: Transcribe | None = None
    level: Callable[[], int]
    with ExitStack() as stack:
        if url:
            open_session: OpenSession = partial(connect, url, config=config, audio=audio, token=token, wait_s=FREED_S)
            level = partial(server_level, partial(open_session, wait_s=CALM_S))
        else:
            loaded = take_model_options(options)
            recognizer = stack.enter_context(load_recognizer(loaded))
            open_session = partial(recognizer.session, config, audio)
            transcribe = partial(recognizer.transcribe, config=config)
            level = partial(getattr, recognizer.engine, "level")
            own = "the model's own" if recognizer.assets.language_model else "none"
            settings |= {"model": recognizer.info, "lm": loaded.lm or own}
        yield LoadTest(
            Playlist(samples, options["silence"]),
            open_session,
            pid=pid or 0 if url else None,
            aligned=aligned,
            settings=settings,
            transcribe=transcribe,
            level=level,
        )


def server_level(open_session: OpenSession) -> int:
    """The overload level of a server, from the first event of a session. Raises `ConnectionProblem`."""

    async def first() -> int:
        async with open_session() as session:
            async for event in session:
                return event.level
        return 0

    return asyncio.run(first())


def read_int16(recording: corpus.CorpusRecording) -> Int16:
    """16 kHz mono samples. Raises `AudioError`."""
    return np.frombuffer(encode(corpus.read_samples(recording), AudioFormat().encoding), np.int16)
