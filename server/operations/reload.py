"""Another model for a server that goes on: loaded beside the one in use, tried, then given to new sessions.

Open sessions end on the model on which they began. Whatever goes wrong, the model in use goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from ...streaming.config import SessionConfig
from ...streaming.errors import EngineError, XlsrLiveError
from ...streaming.frames import SAMPLE_RATE, frames
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.recognizer import Recognizer
from ..access.tokens import load_tokens
from ..logs import fields
from ..models.capacity import capacity
from ..sessions.admission import Admission
from ..settings import ServerSettings

logger = logging.getLogger("xlsr_live.server")

T = TypeVar("T")
Load = Callable[[ServerSettings], Recognizer]
Reread = Callable[[], ServerSettings]

RELOADED: Final = ("model", "revision", "language", "device", "dtype", "threads", "lm", "calibration", "max_sessions")


class Reloaded(msgspec.Struct, frozen=True):
    """What a server says that has another model now."""

    model: str
    device: str
    dtype: str
    max_sessions: int
    needs_restart: list[str]  # settings that have changed and were left as they are


class Reloader:
    """Belongs to one event loop. `load` makes a recognizer as settings say, in a thread; `reread` gives them anew."""

    def __init__(self, admission: Admission, load: Load, reread: Reread) -> None:
        self.busy = False
        self._admission = admission
        self._load = load
        self._reread = reread
        self._settings = reread()
        self._once_more = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Reload soon, and once more if that is being done: the settings may have been read already."""
        self._once_more = True
        if not self.busy:
            self._task = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        while self._once_more:
            self._once_more = False
            try:
                await self.reload()
            except XlsrLiveError:  # it is in the log
                return

    async def reload(self) -> Reloaded:
        """Read settings and tokens again and change to the model that they name. Raises `XlsrLiveError`, after which
        all is as before.
        """
        if self.busy:
            raise ProtocolError(Code.RELOADING, "the server is already loading a model; ask again later")
        self.busy = True
        try:
            done = await self._change()
        except Exception as error:
            self._admission.stats.reloads["failed"] += 1
            why = str(error) if isinstance(error, XlsrLiveError) else f"{type(error).__name__}: {error}"
            logger.error("not reloaded, the server goes on as before: %s", why)
            raise XlsrLiveError(why, code=Code.RELOAD_FAILED) from error
        finally:
            self.busy = False
        self._admission.stats.reloads["done"] += 1
        logger.info("reloaded", extra=fields(**msgspec.structs.asdict(done)))
        return done

    async def _change(self) -> Reloaded:
        admission, sessions = self._admission, self._admission.sessions
        settings = self._reread()
        tokens = load_tokens(admission.settings)
        recognizer = await _in_thread(lambda: self._load(settings))
        try:
            async with asyncio.timeout(admission.settings.stall_s):
                await _in_thread(lambda: try_out(recognizer))
            limit = settings.max_sessions
            if limit == "auto":  # what is measured beside open sessions is too low to be remembered
                limit = await _in_thread(lambda: capacity(recognizer, remember=not sessions.count))
            if sessions.draining:
                raise XlsrLiveError("the server is stopping")
        except BaseException as error:
            recognizer.close(timeout=0)
            if isinstance(error, TimeoutError):
                raise EngineError("the model does not answer") from None
            raise
        admission.access.tokens = tokens
        admission.models.replace(recognizer)
        sessions.limit = limit
        info, before = recognizer.info, self._settings
        changed = [name for name in settings.__struct_fields__ if getattr(settings, name) != getattr(before, name)]
        left = [name for name in changed if name not in RELOADED]
        return Reloaded(info.name, info.device, info.dtype, limit, left)


def try_out(recognizer: Recognizer) -> None:
    """One second of noise, at once and live: whether the model gives numbers, and as many as it should. Raises
    `EngineError`.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    rows = recognizer.engine.submit(noise, deadline=0.0).result()
    wanted = frames(len(noise)), len(recognizer.encoder.vocabulary)
    if rows.shape != wanted or not np.isfinite(rows).all():
        raise EngineError(f"the model answers one second of noise with {rows.shape} numbers, not all of them finite")
    recognizer.transcribe(noise, SessionConfig(vad="none"))


async def _in_thread(work: Callable[[], T]) -> T:
    """In a thread that keeps no process from ending: a model may have to be downloaded."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result: Any = work()
        except BaseException as error:
            _settle(future.set_exception, error)
        else:
            _settle(future.set_result, result)

    threading.Thread(target=run, name="reload", daemon=True).start()
    return await asyncio.wrap_future(future)


def _settle(how: Callable[[Any], None], outcome: Any) -> None:
    try:
        how(outcome)
    except InvalidStateError:  # nobody waits any more
        if isinstance(outcome, Recognizer):
            outcome.close(timeout=0)
