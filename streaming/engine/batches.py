"""Batches: which requests go together, and their calls of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..requests import CachedFeatures, CachedStep
from .encoder import Answer, Encoder, InterruptibleEncoder, Pause, Pending, PipelinedEncoder
from .queue import EncodeJob


@dataclass(slots=True, eq=False)
class RunningBatch:
    """Requests at the encoder."""

    jobs: list[EncodeJob]
    answers: Pending
    begun: float  # time


@dataclass(slots=True)
class BatchFilling:
    """A batch while it fills, with what the encoder asks about its members."""

    encoder: Encoder
    jobs: list[EncodeJob] = field(default_factory=list[EncodeJob])
    _steps: list[CachedStep] = field(default_factory=list[CachedStep])
    _lengths: list[int] = field(default_factory=list[int])

    def fits(self, job: EncodeJob) -> bool:
        """Whether a job may join the batch, which holds jobs of its kind."""
        if isinstance(job.reuse, CachedStep):
            self._steps += [each.reuse for each in self.jobs[len(self._steps) :] if isinstance(each.reuse, CachedStep)]
            return self.encoder.fits_step(job.reuse, self._steps)
        self._lengths += [len(each.samples) for each in self.jobs[len(self._lengths) :]]
        return self.encoder.fits(len(job.samples), self._lengths)


class BatchCalls:
    """Calls the encoder for batches. With a `depth` of 2 the host prepares a batch while the device runs another."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._pipeline = encoder if isinstance(encoder, PipelinedEncoder) and encoder.pipelined else None
        self._pauses = isinstance(encoder, InterruptibleEncoder) and encoder.interruptible
        self.depth = 1 if self._pipeline is None else 2

    def start(self, jobs: Sequence[EncodeJob], pause: Pause) -> Pending:
        """Begin a batch; the result waits for its answers, and raises what the encoder raised at any time."""
        try:
            answers = self._started(jobs, pause)
        except Exception as error:
            answers = partial(_raise, error)
        return partial(_counted, answers, len(jobs))

    def _started(self, jobs: Sequence[EncodeJob], pause: Pause) -> Pending:
        steps = [(job.samples, job.reuse) for job in jobs if isinstance(job.reuse, CachedStep)]
        if steps:
            return self._pipeline.begin_steps(steps) if self._pipeline else partial(self._encoder.encode_steps, steps)
        cached = [job.reuse if isinstance(job.reuse, CachedFeatures) else None for job in jobs]
        samples, languages = [job.samples for job in jobs], [job.language for job in jobs]
        options: dict[str, Any] = {"languages": languages} if any(languages) else {}
        if self._pipeline:
            return self._pipeline.begin(samples, cached, **options)
        if self._pauses:
            options["pause"] = pause
        return partial(self._encoder.encode, samples, cached, **options)


def _raise(error: Exception) -> Sequence[Answer]:
    raise error


def _counted(answers: Pending, jobs: int) -> Sequence[Answer]:
    found = answers()
    if len(found) != jobs:
        raise RuntimeError(f"{len(found)} answers to {jobs} requests")
    return found
