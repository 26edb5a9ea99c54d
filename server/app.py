"""The ASGI app: one recognizer, its websocket, and the few HTTP answers around it."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from ..streaming.ladder import Level
from ..streaming.recognizer import Recognizer
from . import logs
from .access import Access, subprotocol
from .clients import Clients
from .exporter import CONTENT_TYPE, Exporter
from .health import troubles
from .messages import Code
from .native import NativeStream
from .refusals import refusal
from .sessions import Sessions
from .settings import ServerSettings
from .stats import Stats
from .tokens import Client

INDEX: Final = """xlsr-live: real-time speech recognition

websocket  /v1/stream   audio in, transcripts out (the protocol: docs/protocol.md)
GET        /v1/models   the model in use
POST       /v1/ticket   lets a web page open one websocket, soon
GET        /metrics     numbers for Prometheus
GET        /healthz     the process answers
GET        /readyz      new sessions are served
"""


def create_app(recognizer: Recognizer, settings: ServerSettings, sessions: Sessions) -> Starlette:
    """Make the app. `sessions` lets whoever runs the server see and drain the open streams. Raises `ConfigError` if
    the files with tokens cannot be read.
    """
    service = _Service(recognizer, settings, sessions)
    return Starlette(
        routes=[
            Route("/", service.index),
            Route("/healthz", service.health),
            Route("/readyz", service.ready),
            Route("/metrics", service.metrics),
            Route("/v1/models", service.models),
            Route("/v1/ticket", service.ticket, methods=["POST"]),
            WebSocketRoute("/v1/stream", service.stream),
            WebSocketRoute("/{path:path}", service.nowhere),
        ]
    )


class _Service:
    def __init__(self, recognizer: Recognizer, settings: ServerSettings, sessions: Sessions) -> None:
        self._recognizer = recognizer
        self._settings = settings
        self._sessions = sessions
        self._access = Access(settings)
        self._clients = Clients()
        self._stats = Stats()
        self._exporter = Exporter(recognizer, sessions, self._stats, settings)

    async def index(self, request: Request) -> Response:
        return PlainTextResponse(INDEX)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """200 while a new session would be served; else 503, and why."""
        engine = self._recognizer.engine
        why = troubles(engine, self._sessions, self._settings)
        state = {
            "ready": not why,
            "why": why,
            "sessions": self._sessions.count,
            "limit": self._sessions.limit,
            "queued": engine.queued,
            "level": int(engine.level),
        }
        return JSONResponse(state, status_code=503 if why else 200)

    async def metrics(self, request: Request) -> Response:
        if self._access.bearer(request) is None:
            return refusal(Code.UNAUTHORIZED)
        return Response(self._exporter.render(), media_type=CONTENT_TYPE)

    async def models(self, request: Request) -> Response:
        if self._access.bearer(request) is None:
            return refusal(Code.UNAUTHORIZED)
        info = msgspec.to_builtins(self._recognizer.info)
        model = {"id": info.pop("name"), "object": "model", "owned_by": "xlsr-live", **info}
        return JSONResponse({"object": "list", "data": [model]})

    async def ticket(self, request: Request) -> Response:
        """A ticket for a page of the one who has the token."""
        if (client := self._access.bearer(request)) is None:
            return refusal(Code.UNAUTHORIZED)
        if (ticket := self._access.tickets.issue(client)) is None:
            return refusal(Code.TOO_MANY_TICKETS)
        answer = {"ticket": ticket, "expires_in": self._settings.ticket_s}
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    async def stream(self, websocket: WebSocket) -> None:
        client = self._admitted(websocket)
        if isinstance(client, Code):
            await self._refuse(websocket, client)
            return
        self._access.spend(websocket)
        name = secrets.token_hex(4)
        logs.session.set(name)
        with self._clients.entered(client) as account:
            stream = NativeStream(name, websocket, self._recognizer, self._settings, account, self._stats)
            with self._sessions.entered(stream):
                await stream.run(subprotocol(websocket))

    async def nowhere(self, websocket: WebSocket) -> None:
        await self._refuse(websocket, Code.NOT_FOUND)

    async def _refuse(self, websocket: WebSocket, code: Code) -> None:
        self._stats.refused[code] += 1
        await websocket.send_denial_response(refusal(code))

    def _admitted(self, websocket: WebSocket) -> Client | Code:
        """Who opens a session, or why nobody does."""
        if not self._access.origin_allowed(websocket.headers):
            return Code.FORBIDDEN_ORIGIN
        client = self._access.client(websocket)
        if client is None:
            return Code.UNAUTHORIZED
        engine = self._recognizer.engine
        refused = {
            Code.SHUTTING_DOWN: self._sessions.draining,
            Code.ENCODER_FAILED: not (engine.alive and engine.sound),
            Code.CLIENT_FULL: self._clients.full(client),
            Code.SERVER_FULL: self._sessions.full,
            Code.OVERLOADED: engine.level >= Level.FINALS,
        }
        return next((code for code, so in refused.items() if so), client)
