"""The ASGI app: one recognizer, its websocket, and the few HTTP answers around it."""

from __future__ import annotations

import logging
import secrets
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..streaming.events import Error, to_json
from ..streaming.ladder import Level
from ..streaming.recognizer import Recognizer
from . import logs
from .access import Access, subprotocol
from .clients import Clients
from .exporter import CONTENT_TYPE, Exporter
from .health import troubles
from .kept import Kept
from .messages import CLOSE, Code, Start
from .native import NativeStream
from .refusals import refusal
from .sessions import Sessions
from .settings import ServerSettings
from .stats import Stats
from .tokens import Client

logger = logging.getLogger("xlsr_live.server")

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
        self._kept = Kept(settings.resume_grace_s)
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

            def late_refusal() -> Code | None:
                return self._busy(client, sessions=0)

            parts = self._recognizer, self._settings, account, self._stats, self._kept, late_refusal
            stream = NativeStream(name, websocket, *parts)
            with self._sessions.entered(stream):
                start = await stream.run(subprotocol(websocket))
        if start is not None:
            await self._resume(websocket, client, start)

    async def _resume(self, websocket: WebSocket, client: Client, start: Start) -> None:
        """Give the websocket to the session that it belongs to."""
        stream = self._kept.find(start.resume or "", client, named=self._access.tokens.required)
        try:
            if stream is not None:
                logs.session.set(stream.name)
                logger.info("client comes back", extra=logs.fields(events=start.events))
                if stream.finished and await stream.fetched(websocket, start.events):
                    return
                if (served := stream.come_back(websocket, start.events)) is not None:
                    self._stats.resumed += 1
                    await served
                    return
            lost = Error(code=Code.RESUME_LOST, message="that session is not kept any more; start another")
            self._stats.errors[Code.RESUME_LOST] += 1
            await websocket.send_text(to_json(lost))
            await websocket.close(CLOSE[Code.RESUME_LOST], Code.RESUME_LOST)
        except WebSocketDisconnect:
            pass

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
        if self._sessions.draining:
            return Code.SHUTTING_DOWN
        if not (self._recognizer.engine.alive and self._recognizer.engine.sound):
            return Code.ENCODER_FAILED
        code = self._busy(client, sessions=1)
        # Somebody who comes back has a place already, and says so in the first message only.
        return client if code is None or self._kept.awaited else code

    def _busy(self, client: Client, sessions: int) -> Code | None:
        """Why so many more sessions of the client cannot be served now."""
        if self._clients.full(client, sessions):
            return Code.CLIENT_FULL
        if self._sessions.count + sessions > self._sessions.limit:
            return Code.SERVER_FULL
        return Code.OVERLOADED if self._recognizer.engine.level >= Level.FINALS else None
