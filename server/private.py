"""What a front answers to the other fronts of its server, at a Unix socket in the server's private folder. Whoever can
open that socket is trusted."""

from __future__ import annotations

import logging
import socket
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from .dialects.endpoints import Handover, resume_here
from .operations.metrics import Exporter
from .sessions.admission import Admission
from .sessions.sharing import ViewerResponse
from .settings import ServerSettings


class PrivateServer(uvicorn.Server):
    """Runs in the event loop of the front: `begin`, then `end`."""

    def __init__(self, admission: Admission) -> None:
        super().__init__(_configuration(_app(admission), admission.settings))

    async def begin(self, address: str) -> None:
        """Listen at the address."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup([listener])

    def end(self) -> None:
        """Accept no more; open connections end with what they are about."""
        for server in self.servers:
            server.close()


def _app(admission: Admission) -> Starlette:
    exporter = Exporter(admission)

    async def resume(websocket: WebSocket) -> None:
        await websocket.accept()
        handover = msgspec.json.decode(await websocket.receive_text(), type=Handover)
        await resume_here(admission, websocket, handover)

    async def watch(request: Request) -> Response:
        if (shared := admission.sharing.find(request.path_params["key"])) is None:
            return Response(status_code=404)
        return ViewerResponse(admission.sharing, shared, request.headers.get("last-event-id", ""))

    async def metrics(request: Request) -> Response:
        return Response(exporter.render())

    return Starlette(
        routes=[WebSocketRoute("/resume", resume), Route("/shared/{key}", watch), Route("/metrics", metrics)]
    )


def _configuration(app: Any, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=settings.hard_limit_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        ws_ping_timeout=None,
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
    )
