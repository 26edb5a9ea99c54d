"""The ASGI app: one recognizer, its websocket, and the few HTTP answers around it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from ..streaming.errors import ConfigError
from ..streaming.recognizer import Recognizer
from . import openai_shapes
from .access import authorized, origin_allowed
from .deepgram import DeepgramStream
from .messages import Code
from .native import NativeStream
from .openai_http import Transcription
from .openai_realtime import RealtimeStream
from .refusals import refusal
from .sessions import Sessions
from .settings import ServerSettings
from .vosk import VoskStream
from .websocket import WebSocketStream

INDEX: Final = """xlsr-live: real-time speech recognition

websocket  /v1/stream   audio in, transcripts out (the protocol: docs/protocol.md)
websocket  /            the same in Vosk's protocol (this and those below: docs/clients.md)
websocket  /v1/listen   in Deepgram's
websocket  /v1/realtime in OpenAI's
POST       /v1/audio/transcriptions   a file, as OpenAI's
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
            Route("/v1/audio/transcriptions", service.transcribe, methods=["POST"]),
            WebSocketRoute("/v1/stream", service.speaking(NativeStream)),
            WebSocketRoute("/", service.speaking(VoskStream)),
            WebSocketRoute("/v1/listen", service.speaking(DeepgramStream)),
            WebSocketRoute("/v1/realtime", service.speaking(RealtimeStream)),
            WebSocketRoute("/{path:path}", service.elsewhere),
        ]
    )


class _Service:
    def __init__(self, recognizer: Recognizer, settings: ServerSettings, sessions: Sessions) -> None:
        self._recognizer = recognizer
        self._settings = settings
        self._sessions = sessions
        self._started = round(time.time())

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
            return refusal(Code.UNAUTHORIZED)
        info = msgspec.to_builtins(self._recognizer.info)
        model = {"id": info.pop("name"), "object": "model", "created": self._started, "owned_by": "xlsr-live", **info}
        return JSONResponse({"object": "list", "data": [model]})

    async def transcribe(self, request: Request) -> Response:
        if (code := self._closed_to(request)) is not None:
            return openai_shapes.refusal(code)
        name = secrets.token_hex(4)
        return await Transcription(name, request, self._recognizer, self._settings).answer(self._sessions)

    def speaking(self, dialect: type[WebSocketStream]) -> Callable[[WebSocket], Awaitable[None]]:
        """The endpoint of a dialect."""

        async def endpoint(websocket: WebSocket) -> None:
            if (code := self._closed_to(websocket)) is not None:
                await websocket.send_denial_response(dialect.refused(code))
                return
            try:
                stream = dialect(secrets.token_hex(4), websocket, self._recognizer, self._settings)
            except ConfigError as error:
                await websocket.send_denial_response(dialect.refused(Code.BAD_CONFIG, str(error)))
                return
            with self._sessions.entered(stream):
                await stream.run()

        return endpoint

    async def elsewhere(self, websocket: WebSocket) -> None:
        """Any other path; Vosk's clients, on a port of their own, may name any."""
        if (
            self._settings.vosk_port is not None
            and (websocket.scope["server"] or ("", 0))[1] == self._settings.vosk_port
        ):
            await self.speaking(VoskStream)(websocket)
        else:
            await websocket.send_denial_response(refusal(Code.NOT_FOUND))

    def _closed_to(self, connection: HTTPConnection) -> Code | None:
        if not origin_allowed(connection.headers, self._settings):
            return Code.FORBIDDEN_ORIGIN
        if not authorized(connection.headers, self._settings):
            return Code.UNAUTHORIZED
        return self._sessions.closed(alive=self._recognizer.engine.alive)
