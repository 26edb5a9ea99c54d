"""uvicorn as this server needs it, in processes where Ray Serve starts it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ..net.connections import websocket_options
from ..settings import ServerSettings

# Serve cancels a request whose client is gone, and with it a session that the client could still resume.
KEEP: Final = (b"x-request-disconnect-disabled", b"?1")


class NeverCancelled:
    """Tells Serve that the app itself handles clients that leave."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = [*(header for header in scope["headers"] if header[0] != KEEP[0]), KEEP]
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Serve calls this in every process with an HTTP server, before it starts (`serve_environment`)."""
    tune(websocket_options(ServerSettings()))  # of a proxy; a replica has given its own options
    return [Middleware(NeverCancelled)]


def tune(options: Mapping[str, Any]) -> None:
    """Give uvicorn these options: Serve sets none of them, and uvicorn's defaults compress audio, and drop clients that
    send faster than real time because their pongs are late. The first call counts.
    """
    module: Any = uvicorn
    if not isinstance(module.Config, partial):
        module.Config = partial(uvicorn.Config, **options)
