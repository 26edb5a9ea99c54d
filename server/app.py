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

from ..streaming.events import Error, to_json
from ..streaming.recognizer import Recognizer
from .access import authorized, origin_allowed
from .messages import REFUSED, Code
from .native import NativeStream
from .sessions import Sessions
from .settings import ServerSettings
from .transport import WebSocketTransport

INDEX: Final = """xlsr-live: real-time speech recognition

websocket  /v1/stream   audio in, transcripts out (the protocol: docs/protocol.md)
GET        /v1/models   the model in use
GET        /healthz     the process answers
GET        /readyz      new sessions are served
"""


def create_app(recognizer: Recognizer, settings: ServerSettings, sessions: Sessions | None = None) -> Starlette:
    """Make the app. `sessions` lets whoever runs the server see and drain the open streams."""
    service = _Service(recognizer, settings, sessions or Sessions(settings.max_sessions))
    return Starlette(
        routes=[
            Route("/", service.index),
            Route("/healthz", service.health),
            Route("/readyz", service.ready),
            Route("/v1/models", service.models),
            WebSocketRoute("/v1/stream", service.stream),
            WebSocketRoute("/{path:path}", service.nowhere),
        ]
    )


class _Service:
    def __init__(self, recognizer: Recognizer, settings: ServerSettings, sessions: Sessions) -> None:
        self._recognizer = recognizer
        self._settings = settings
        self._sessions = sessions

    async def index(self, request: Request) -> Response:
        return PlainTextResponse(INDEX)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """200 while a new session would be served by a living engine; a full server is ready, only busy."""
        engine = self._recognizer.engine
        ready = engine.alive and not self._sessions.draining
        state = {"ready": ready, "sessions": self._sessions.count, "queued": engine.queued}
        return JSONResponse(state, status_code=200 if ready else 503)

    async def models(self, request: Request) -> Response:
        if not authorized(request.headers, self._settings):
            return _refusal(Code.UNAUTHORIZED)
        info = msgspec.to_builtins(self._recognizer.info)
        model = {"id": info.pop("name"), "object": "model", "owned_by": "xlsr-live", **info}
        return JSONResponse({"object": "list", "data": [model]})

    async def stream(self, websocket: WebSocket) -> None:
        if (code := self._closed_to(websocket)) is not None:
            await websocket.send_denial_response(_refusal(code))
            return
        transport = WebSocketTransport(websocket, self._settings.max_message_bytes)
        stream = NativeStream(secrets.token_hex(4), transport, self._recognizer, self._settings)
        with self._sessions.entered(stream):
            await stream.run()

    async def nowhere(self, websocket: WebSocket) -> None:
        await websocket.send_denial_response(_refusal(Code.NOT_FOUND))

    def _closed_to(self, websocket: WebSocket) -> Code | None:
        if not origin_allowed(websocket.headers, self._settings):
            return Code.FORBIDDEN_ORIGIN
        if not authorized(websocket.headers, self._settings):
            return Code.UNAUTHORIZED
        if self._sessions.draining:
            return Code.SHUTTING_DOWN
        if not self._recognizer.engine.alive:
            return Code.ENCODER_FAILED
        return Code.SERVER_FULL if self._sessions.full else None


_WHY: Final = {
    Code.UNAUTHORIZED: "send the server's token as `Authorization: Bearer <token>`",
    Code.FORBIDDEN_ORIGIN: "pages of this origin may not use the server; it must be started with the origin allowed",
    Code.NOT_FOUND: "there is no websocket at this path; the native protocol is at /v1/stream",
    Code.SERVER_FULL: "all sessions are taken; try again later",
    Code.SHUTTING_DOWN: "the server is stopping; try again later",
    Code.ENCODER_FAILED: "the model has failed; the server must be started again",
}


def _refusal(code: Code) -> Response:
    headers = {Code.UNAUTHORIZED: {"www-authenticate": "Bearer"}, Code.SERVER_FULL: {"retry-after": "5"}}.get(code)
    body = to_json(Error(code=code, message=_WHY[code]))
    return Response(body, status_code=REFUSED[code], headers=headers, media_type="application/json")
