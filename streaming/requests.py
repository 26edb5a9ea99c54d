"""Types shared by session, engine and model: encode and decode jobs, windows, and handles to encoder caches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .frames import span

MULTIPLE: Final = "mul"  # in ISO 639-3, "multiple languages": rows of the identification model


@dataclass(frozen=True, slots=True)
class Window:
    """One live step, in frames of the utterance: `first <= committed <= commit <= newest`.

    Frames before `committed` are already committed. This step commits `[committed, commit)`; `[commit, newest)` stays
    volatile. Earlier steps encoded the frames before `encoded`, which is at least `committed`.
    """

    step: int
    first: int  # oldest frame that this step reads
    committed: int
    commit: int
    newest: int
    encoded: int

    @property
    def samples(self) -> tuple[int, int]:
        """Samples `[start, end)` of the utterance that make exactly the frames `[first, newest)`."""
        return _samples(self.first, self.newest)

    @property
    def new_samples(self) -> tuple[int, int]:
        """Samples of the frames `[encoded, newest)`: the first 80 also belong to the frame before."""
        return _samples(self.encoded, self.newest)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class CacheHandle:
    """Handle to one utterance's encoder cache, compared by identity. Releasing or collecting it frees the cache.

    Lengths are in frames.
    """

    left_context: int
    lookahead: int
    longest: int = 1_000  # the cache keeps no features for the second pass of an utterance that gets longer
    language: str | None = None  # of the utterance, as the checkpoint names it; None: the checkpoint's only one
    number: int = field(default_factory=count(1).__next__, init=False)  # unique in the process


class CachedStep(NamedTuple):
    """A live step that continues from a cache. It has only the window's new samples; its answer has the rows of frames
    `[committed, newest)`."""

    cache: CacheHandle
    window: Window


class CachedFeatures(NamedTuple):
    """A full pass that may take the features of the utterance's first `frames` frames from a cache, if they still
    exist. Its audio must have the same scale as in the live steps."""

    cache: CacheHandle
    frames: int


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Audio to encode. The answer has one row of log-probabilities for each frame of `samples`, or as `reuse` says."""

    id: int  # within the session
    kind: Literal["live", "final", "identify"]  # "identify": a full pass that helps to find the utterance's language
    utterance: int
    samples: NDArray[np.float32]  # (n,), 16 kHz, normalised as the checkpoint requires
    deadline: float  # on the caller's clock; finals are due at once
    window: Window | None  # of a live step
    reuse: CachedStep | CachedFeatures | None = None  # in cached mode; one cache's requests are encoded in order
    language: str | None = None  # as the checkpoint names it: rows have the width of this language's vocabulary; or
    # `MULTIPLE`, for samples that are not normalised: a row has the log-probability of each class


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """A long decoding. Any thread may call `run`, once; the return value is the answer.

    It shares no state with its session.
    """

    id: int  # within the session
    kind: Literal["live", "final"]
    utterance: int
    deadline: float  # that of the request whose answer it decodes
    run: Callable[[], object]


Job = Request | DecodeJob


def _samples(first: int, newest: int) -> tuple[int, int]:
    start = span(first + 1) - span(1)
    return start, start + span(newest - first)
