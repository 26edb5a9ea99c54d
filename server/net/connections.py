"""uvicorn's options, with limits below HTTP: the number of connections, and the time in which a request must arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, ClassVar, Final

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..settings import ServerSettings
from .peers import AbortableWebSocket

MIN_UPLOAD_RATE: Final = 125_000  # bytes/s
PING_S: Final = 5.0  # between pings, by which clients notice that this machine is gone


def uvicorn_options(
    settings: ServerSettings, upload_paths: Collection[str], count: Callable[[], int] | None = None
) -> dict[str, Any]:
    """uvicorn's protocols with the limits of the settings; see `limited_http`."""
    return {
        "h11_max_incomplete_event_size": 16 << 10,  # of a request's head
        "http": limited_http(settings, upload_paths, count),
        "server_header": False,
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": list(settings.trusted_proxies),
        "timeout_graceful_shutdown": 5,
        **websocket_options(settings),
    }


def websocket_options(settings: ServerSettings) -> dict[str, Any]:
    """Those of uvicorn's websockets."""
    return {
        "ws": AbortableWebSocket,
        "ws_max_size": settings.hard_limit_bytes,
        "ws_per_message_deflate": False,  # audio compresses badly, and small messages could expand to huge ones
        "ws_ping_interval": PING_S,
        # A pong waits behind audio that a full backlog leaves unread, so a deadline would drop clients that send faster
        # than real time. The idle timeout finds lost clients.
        "ws_ping_timeout": None,
    }


def limited_http(
    settings: ServerSettings, upload_paths: Collection[str], count: Callable[[], int] | None = None
) -> type[LimitedProtocol]:
    """uvicorn's HTTP protocol with the limits of the settings.

    A connection beyond `max_connections` is closed at once. A request must arrive within `request_timeout_s`, head and
    body; on `upload_paths` the body has the time of the largest upload at `MIN_UPLOAD_RATE`. Without a deadline, slow
    senders could hold connections forever. `count`: of open connections, if not only this process has some.
    """

    class Configured(LimitedProtocol):
        max_connections = settings.max_connections
        request_timeout_s = settings.request_timeout_s
        upload_timeout_s = request_timeout_s + settings.max_upload_bytes / MIN_UPLOAD_RATE
        uploads = upload_paths
        count_all = (count,)

    return Configured


class LimitedProtocol(H11Protocol):
    """See `limited_http`."""

    max_connections: ClassVar[int]
    request_timeout_s: ClassVar[float]
    upload_timeout_s: ClassVar[float]
    uploads: ClassVar[Collection[str]]
    count_all: ClassVar[tuple[Callable[[], int] | None]]  # in a tuple: a class would bind the function

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None  # of the request that is arriving
        self._uploading = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        (count_all,) = self.count_all
        if (len(self.connections) if count_all is None else count_all()) > self.max_connections:
            transport.abort()
        else:
            self._set_deadline(self.request_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        is_websocket = self.transport.get_protocol() is not self
        if is_websocket or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._clear_deadline()
        elif self._body_is_upload() and not self._uploading and self._deadline is not None:
            self._uploading = True
            self._set_deadline(self.upload_timeout_s)
        elif self._deadline is None and not self.transport.is_closing():
            self._set_deadline(self.request_timeout_s)

    def _body_is_upload(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY and self.scope["path"] in self.uploads

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _clear_deadline(self) -> None:
        self._uploading = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
