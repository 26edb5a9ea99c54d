"""Connections below HTTP: how many there may be, and how long one may take to say what it wants."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, ClassVar, Final

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..settings import ServerSettings

LEAST_UPLOAD_RATE: Final = 125_000  # bytes/s


def limited(settings: ServerSettings, uploads: Collection[str]) -> type[Impatient]:
    """uvicorn's HTTP, with two limits of its own: beyond so many connections a new one is closed at once, and a whole
    request, head and body, must be there within that time (at the paths `uploads` the body may take longer, as long as
    the largest at `LEAST_UPLOAD_RATE`). Else clients that send a byte now and then would hold connections for ever.
    """

    class Limited(Impatient):
        most = settings.max_connections
        patience = settings.request_timeout_s
        upload_patience = patience + settings.max_upload_bytes / LEAST_UPLOAD_RATE
        upload_paths = uploads

    return Limited


class Impatient(H11Protocol):
    """See `limited`."""

    most: ClassVar[int]
    patience: ClassVar[float]  # seconds
    upload_patience: ClassVar[float]
    upload_paths: ClassVar[Collection[str]]

    def __init__(self, config: Config, *others: Any, **named: Any) -> None:
        super().__init__(config, *others, **named)
        self._deadline: asyncio.TimerHandle | None = None  # for the request that is on its way
        self._uploading = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._deadline = self.loop.call_later(self.patience, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        websocket = self.transport.get_protocol() is not self
        if websocket or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._arrived()
        elif self._uploads() and not self._uploading and self._deadline is not None:
            self._deadline.cancel()
            self._uploading = True
            self._deadline = self.loop.call_later(self.upload_patience, self.transport.abort)
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.patience, self.transport.abort)

    def _uploads(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY and self.scope["path"] in self.upload_paths

    def _arrived(self) -> None:
        self._uploading = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
