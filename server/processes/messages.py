"""What crosses between a front and the engine. One message holds everything since the message before it.

Arrays lie in shared memory (`ring`); one that is too large for that is in the message. Times are of the monotonic clock
that all processes of a machine share.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ...streaming.ctc.vocabulary import Vocabulary
from ...streaming.model.info import ModelInfo
from ...streaming.model_languages import Classes
from ...streaming.requests import CachedFeatures, CachedStep, CacheHandle, Window


class SentArray(msgspec.Struct, array_like=True, frozen=True):
    """An array of float32: at a place of the ring, or with its bytes."""

    count: int  # items
    place: int = -1
    content: bytes = b""


class SentCache(msgspec.Struct, array_like=True, frozen=True):
    """A cache handle, before the first request that uses it."""

    number: int
    left_context: int
    lookahead: int
    longest: int
    language: str | None


class SentRequest(msgspec.Struct, array_like=True, frozen=True):
    """A request for the encoder."""

    number: int  # of the front
    deadline: float
    samples: SentArray
    language: str | None
    cache: int | None = None
    window: tuple[int, int, int, int, int, int] | None = None  # of a `CachedStep`
    frames: int = 0  # of `CachedFeatures`


class FrontMessage(msgspec.Struct, array_like=True, frozen=True):
    """To the engine, in this order."""

    caches: list[SentCache]
    requests: list[SentRequest]
    withdrawn: list[int]  # requests that nobody wants any more
    released: list[int]  # caches


class SentAnswer(msgspec.Struct, array_like=True, frozen=True):
    """The answer to a request: rows, an error, or neither for a withdrawn one."""

    number: int
    rows: SentArray | None = None
    width: int = 0  # of a row
    error: str = ""


class EngineStatus(msgspec.Struct, array_like=True, frozen=True):
    """The state of the engine, which no front can know by itself."""

    alive: bool
    healthy: bool
    working_s: float
    queued: int
    restarts: int
    busy_s: float
    batch_sizes: list[int]  # counts of a `Histogram`
    batched: float  # its total
    memory: dict[str, int]  # of a GPU, bytes by kind


class EngineMessage(msgspec.Struct, array_like=True, frozen=True):
    """To a front."""

    answers: list[SentAnswer]
    status: EngineStatus | None = None


class ModelDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The model in the engine process, as sessions must know it."""

    info: ModelInfo
    vocabulary: Vocabulary
    normalized: bool
    epsilon: float
    room: int | None
    languages: tuple[str, ...]  # codes of all; empty for a model with one
    language: str | None  # of these, the default
    classes: Classes | None
    limit: int  # of sessions


class Greeting(msgspec.Struct, frozen=True):
    """The first message of a front: where its shared memory is, and how many items each ring has."""

    memory: str
    audio: int
    rows: int


class VocabularyQuestion(msgspec.Struct, frozen=True):
    """The only message of another connection: load this language, and answer with its vocabulary."""

    language: str


to_front: Final = msgspec.msgpack.Encoder()
to_engine: Final = msgspec.msgpack.Encoder()
from_engine: Final = msgspec.msgpack.Decoder(EngineMessage)
from_front: Final = msgspec.msgpack.Decoder(FrontMessage)


def sent_cache(handle: CacheHandle) -> SentCache:
    return SentCache(handle.number, handle.left_context, handle.lookahead, handle.longest, handle.language)


def received_cache(sent: SentCache) -> CacheHandle:
    """A handle of this process."""
    return CacheHandle(sent.left_context, sent.lookahead, sent.longest, sent.language)


def received_reuse(request: SentRequest, handle: CacheHandle) -> CachedStep | CachedFeatures:
    """What a request reuses from its cache."""
    if request.window is None:
        return CachedFeatures(handle, request.frames)
    return CachedStep(handle, Window(*request.window))


def sent_window(window: Window) -> tuple[int, int, int, int, int, int]:
    return window.step, window.first, window.committed, window.commit, window.newest, window.encoded
