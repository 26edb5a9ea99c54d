"""A model that may replace the current one: loaded and checked in a thread, while sessions continue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

import numpy as np

from ...streaming.config import SessionConfig
from ...streaming.errors import EngineError
from ...streaming.frames import SAMPLE_RATE, frames
from ...streaming.recognizer import Recognizer
from ..settings import ServerSettings
from .capacity import capacity, warn_if_crowded

T = TypeVar("T")
Load = Callable[[ServerSettings], Recognizer]  # makes the recognizer of the settings


async def load_candidate(
    load: Load, settings: ServerSettings, timeout_s: float, busy: Callable[[], bool]
) -> tuple[Recognizer, int]:
    """Load and check the model of the settings; returns it with its session limit. The caller owns it.

    `timeout_s` limits the check. `busy`: whether sessions are open; they distort a measurement of the capacity, so it
    is then not cached. Raises the errors of `load`, and `EngineError` if the model fails the check.
    """
    recognizer = await in_thread(lambda: load(settings))
    try:
        async with asyncio.timeout(timeout_s):
            await in_thread(lambda: check(recognizer))
        limit = settings.max_sessions
        if limit == "auto":
            limit = await in_thread(lambda: capacity(recognizer, remember=not busy()))
        warn_if_crowded(limit, recognizer)
    except BaseException as error:
        recognizer.close(timeout=0)
        if isinstance(error, TimeoutError):
            raise EngineError("the model does not answer") from None
        raise
    return recognizer, limit


def check(recognizer: Recognizer) -> None:
    """Encode one second of noise in a full pass and in live steps. Raises `EngineError` if the output has the wrong
    shape or is not finite.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    language, *_ = recognizer.languages.load(recognizer.languages.trial)
    rows = recognizer.engine.submit(noise, deadline=0.0, language=language).result()
    expected = frames(len(noise)), len(recognizer.languages.vocabulary(language))
    if rows.shape != expected:
        raise EngineError(f"the model gives shape {rows.shape} for one second of noise; expected {expected}")
    if not np.isfinite(rows).all():
        raise EngineError("the model gives numbers that are not finite for one second of noise")
    recognizer.transcribe(noise, SessionConfig(vad="none", language=recognizer.languages.trial))
    if recognizer.languages.identifies:
        recognizer.transcribe(noise, SessionConfig(vad="none"))


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a daemon thread: a model download must not prevent the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result: Any = work()
        except BaseException as error:
            _complete(future.set_exception, error)
        else:
            _complete(future.set_result, result)

    threading.Thread(target=run, name="load-model", daemon=True).start()
    return await asyncio.wrap_future(future)


def _complete(setter: Callable[[Any], None], outcome: Any) -> None:
    try:
        setter(outcome)
    except InvalidStateError:  # the waiter was cancelled
        if isinstance(outcome, Recognizer):
            outcome.close(timeout=0)
