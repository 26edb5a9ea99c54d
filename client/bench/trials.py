"""Trials of paced streams on one recognizer or server, as the options of a command say, and their tables."""

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
from .alignment import Aligned, end_of, read_alignment
from .load import Meter
from .streams import Material, Opening, Plan, Trial, run
from .tables import Table

MOST_RECORDINGS = 200  # held in memory, unless --limit says otherwise


Alone = Callable[[NDArray[np.float32]], list[Final]]  # finals of 16 kHz samples, (n,)


class Verified(NamedTuple):
    equal: int  # finals: words, times and confidences
    total: int


class Outcome(NamedTuple):
    trial: Trial
    found: Latencies

    @property
    def level(self) -> int:
        """The most that was given up in the measured time; 0 is nothing."""
        since, until = self.trial.since, self.trial.until
        seen = (event for heard in self.trial.streams for at, event in heard.events if since <= at < until)
        return max((getattr(event, "level", 0) for event in seen), default=0)

    def report(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "plan": self.trial.plan,
            "problem": self.trial.problem,
            "level": self.level,
            "seconds": self.found.report(),
            "load": self.trial.load.report(self.trial.plan.streams),
        }


class Bench:
    """`settings` is what trials have in common, for the report."""

    def __init__(
        self,
        material: Material,
        opening: Opening,
        *,
        pid: int | None,
        aligned: Sequence[Aligned],
        settings: Any,
        alone: Alone | None,
        level: Callable[[], int],
    ) -> None:
        self.settings: dict[str, Any] = settings
        self._level = level
        self._alone = alone
        self._material = material
        self._opening = opening
        self._pid = pid
        self._aligned = aligned

    def trial(self, plan: Plan) -> Outcome:
        """Run one. Raises `XlsrLiveError` if no stream began, or if all came to their end and no word was heard."""
        while self._level():  # what the trial before led to is not this one's doing
            time.sleep(0.5)
        with progress(round(plan.warm_up + plan.seconds)) as (advance, _):
            trial = asyncio.run(run(plan, self._material, self._opening, Meter(self._pid), advance))
        if trial.problem and not any(heard.events for heard in trial.streams):
            raise XlsrLiveError(trial.problem)
        found = Latencies()
        for number, heard in enumerate(trial.streams):
            end = end_of(self._aligned, self._material, number) if self._aligned else word_end
            found.extend(latencies(heard, since=trial.since, until=trial.until, end_of=end))
        if not found.committed and trial.problem is None:
            raise XlsrLiveError("no word was heard in the measured time: longer --seconds, or other recordings")
        return Outcome(trial, found)

    def verify(self, outcome: Outcome) -> Verified:
        """Hold every final against that of the same audio with nobody beside it. Raises `ConfigError` on a server."""
        if self._alone is None:
            raise ConfigError("--verify needs the recognizer in this process: leave --url out")
        plan, equal, total = outcome.trial.plan, 0, 0
        size = plan.packet_ms * SAMPLE_RATE // 1000
        with progress(plan.streams) as (advance, _):
            for number, heard in enumerate(outcome.trial.streams):
                said = [event for _, event in heard.events if isinstance(event, Final)]
                audio = b"".join(self._material.packets(number, size, plan.samples(number)))
                expected = self._alone(np.frombuffer(audio, "<i2").astype(np.float32) / np.float32(32_768))
                equal += sum(one == other for one, other in zip(said, expected, strict=False))
                total += max(len(said), len(expected))
                advance()
        return Verified(equal, total)


@contextmanager
def bench_of(options: dict[str, Any]) -> Generator[Bench]:
    """The bench that a command's options describe. Raises `XlsrLiveError`."""
    url: str | None = options["url"]
    pid: int | None = options["pid"]
    if pid and not url:
        raise ConfigError("--pid is for a server (--url): in this process CPU time is measured anyway")
    config, token, audio = session_config(options), read_token(options["token_file"]), AudioFormat()
    where, limit, alignment = options["where"], options["limit"] or MOST_RECORDINGS, options["alignment"]
    recordings = corpus.spoken(corpus.read_corpus(options["data"], where=where, limit=limit))
    aligned = read_alignment(alignment, recordings) if alignment else []
    with waiting("reading the recordings"):
        samples = [int16(recording) for recording in recordings]
    settings = {
        "data": str(options["data"] or "packaged clips"),
        "recordings": len(samples),
        "silence": options["silence"],
        "alignment": str(alignment) if alignment else "times of the finals",
        "config": msgspec.to_builtins(config),
        "url": url,
    }
    alone: Alone | None = None
    level: Callable[[], int] = int  # a server's is not known before it speaks
    with ExitStack() as stack:
        if url:
            opening: Opening = partial(connect, url, config=config, audio=audio, token=token)
        else:
            chosen = take_model_options(options)
            recognizer = stack.enter_context(load_recognizer(chosen))
            opening = partial(recognizer.session, config, audio)
            alone = partial(recognizer.transcribe, config=config)
            level = partial(getattr, recognizer.engine, "level")
            own = "the model's own" if recognizer.assets.language_model else "none"
            settings |= {"model": recognizer.info, "lm": chosen.lm or own}
        material = Material(samples, options["silence"])
        yield Bench(
            material,
            opening,
            pid=pid or 0 if url else None,
            aligned=aligned,
            settings=settings,
            alone=alone,
            level=level,
        )


def int16(recording: corpus.Recording) -> NDArray[np.int16]:
    """16 kHz mono samples. Raises `AudioError`."""
    return np.frombuffer(encode(corpus.read_samples(recording), AudioFormat().encoding), np.int16)


def detail(outcome: Outcome) -> Table:
    """One trial."""
    trial, found = outcome
    names = {
        "shown": "word shown",
        "right": "word shown right",
        "committed": "word committed",
        "final": "word final",
        "final_after_word": "final after its last word",
        "final_after_end": "final after the utterance's end",
        "lag": "partial after its audio",
    }
    rows = [[label, *_cells(getattr(found, name))] for name, label in names.items()]
    title = f"Latency, {trial.plan.streams} streams, {trial.plan.seconds:g} s"
    return Table(title, ["seconds", "p50", "p95", "p99", "most", "count"], rows, [_used(outcome)])


def curve(outcomes: Sequence[Outcome], bound: float, moment: str) -> Table:
    """Trials by their number of streams."""
    rows = [
        [
            str(trial.plan.streams),
            *_cells(found.shown)[:3],
            *_cells(found.right)[:2],
            *_cells(found.committed)[:2],
            *_cells(found.final_after_word)[:2],
            *_cells(found.lag)[1:2],
            "" if trial.load.cores is None else f"{trial.load.cores:.2f}",
            str(Outcome(trial, found).level),
            trial.problem or ("yes" if within(Outcome(trial, found), bound, moment) else "no"),
        ]
        for trial, found in outcomes
    ]
    columns = [
        "streams",
        "shown p50",
        "p95",
        "p99",
        "right p50",
        "p95",
        "committed p50",
        "p95",
        "final after last word p50",
        "p95",
    ]
    columns += ["lag p95", "cores", "level", f"{moment} p95 under {bound:g} s"]
    return Table("Capacity (latencies in seconds)", columns, rows)


def within(outcome: Outcome, bound: float, moment: str) -> bool:
    """Whether all streams came to their end and the moment's p95 is under the bound (seconds)."""
    found = percentiles(getattr(outcome.found, moment))
    return outcome.trial.problem is None and found["count"] > 0 and found["p95"] < bound


def _cells(values: Sequence[float]) -> list[str]:
    found = percentiles(values)
    return [*(f"{found[name]:.2f}" if name in found else "" for name in ("p50", "p95", "p99", "max")), str(len(values))]


def _used(outcome: Outcome) -> str:
    load = outcome.trial.load
    if load.cores is None:
        used = "CPU time of the server not measured (--pid, where it runs here)"
    else:
        each = 1000 * load.cores / outcome.trial.plan.streams
        used = f"{load.cores:.2f} CPU cores, {each:.1f} ms of CPU time for each second of a stream"
    if load.gpu_bytes is not None:
        share = f"{sum(load.gpu) / len(load.gpu):.0f} % busy, " if load.gpu else ""
        used += f"; GPU {share}{load.gpu_bytes / 2**30:.1f} GiB in use"
    return used + "."
