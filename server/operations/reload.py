"""Changes the model of a running server. New sessions get the new model; open ones keep theirs.

If anything fails, the server keeps the current model, tokens and limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from ...streaming.errors import XlsrLiveError
from ...streaming.protocol.codes import Code, ProtocolError
from ..access.tokens import load_tokens
from ..logs import fields
from ..models.candidate import Load, load_candidate
from ..sessions.admission import Admission
from ..settings import ServerSettings

logger = logging.getLogger("xlsr_live.server")

Reread = Callable[[], ServerSettings]  # reads the settings again

RELOADABLE: Final = (
    *("model", "revision", "language", "allowed_languages", "lid", "device", "dtype", "threads", "lm", "calibration"),
    *("punctuation_model", "max_sessions", "translators", "translate_from", "translate_beams", "translate_max_lag"),
)


class Reloaded(msgspec.Struct, frozen=True):
    """The answer to a successful reload."""

    model: str
    device: str
    dtype: str
    max_sessions: int
    needs_restart: list[str]  # changed settings that a reload does not apply


class Reloader:
    """Belongs to one event loop."""

    def __init__(self, admission: Admission, load: Load, reread: Reread) -> None:
        self.busy = False
        self._admission = admission
        self._load = load
        self._reread = reread
        self._initial = reread()
        self._requested = False
        self._task: asyncio.Task[None] | None = None

    def request(self) -> None:
        """Reload soon. During a reload, reload once more: the running one may have read older settings."""
        self._requested = True
        self._start_serving()

    def _start_serving(self) -> None:
        serving = self._task is not None and not self._task.done()
        if self._requested and not self.busy and not serving:
            self._task = asyncio.get_running_loop().create_task(self._serve_requests())

    async def _serve_requests(self) -> None:
        while self._requested and not self.busy:
            self._requested = False
            with suppress(XlsrLiveError):  # already logged
                await self.reload()

    async def reload(self) -> Reloaded:
        """Read settings and tokens again and load the model of the settings.

        Raises `XlsrLiveError` and then changes nothing.
        """
        if self.busy:
            raise ProtocolError(Code.RELOADING, "the server is already loading a model; try again later")
        self.busy = True
        try:
            result = await self._change()
        except Exception as error:
            self._admission.stats.reloads["failed"] += 1
            reason = str(error) if isinstance(error, XlsrLiveError) else f"{type(error).__name__}: {error}"
            logger.error("the reload failed, the server continues as before: %s", reason)
            raise XlsrLiveError(reason, code=Code.RELOAD_FAILED) from error
        finally:
            self.busy = False
            self._start_serving()
        self._admission.stats.reloads["done"] += 1
        logger.info("reloaded", extra=fields(**msgspec.structs.asdict(result)))
        return result

    async def _change(self) -> Reloaded:
        admission, sessions = self._admission, self._admission.sessions
        settings = self._reread()
        tokens = load_tokens(admission.settings)
        recognizer, limit = await load_candidate(
            self._load, settings, admission.settings.stall_s, busy=lambda: bool(sessions.count)
        )
        if sessions.draining:
            recognizer.close(timeout=0)
            raise XlsrLiveError("the server is stopping")
        admission.access.tokens = tokens
        admission.models.replace(recognizer)
        sessions.limit = limit
        info = recognizer.info
        return Reloaded(info.name, info.device, info.dtype, limit, self._needs_restart(settings))

    def _needs_restart(self, settings: ServerSettings) -> list[str]:
        names = [name for name in settings.__struct_fields__ if name not in RELOADABLE]
        return [name for name in names if getattr(settings, name) != getattr(self._initial, name)]
