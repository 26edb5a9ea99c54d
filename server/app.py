"""The ASGI app: one recognizer, its websocket, and the few HTTP answers around it."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..streaming.errors import ConfigError
from ..streaming.events import Error, to_json
from . import logs, openai_keys
from .admission import Admission
from .deepgram import DeepgramStream
from .deepgram_http import Prerecorded
from .exporter import CONTENT_TYPE, Exporter
from .health import troubles
from .messages import CLOSE, Code, Start
from .native import NativeStream
from .openai_http import Transcription
from .openai_realtime import RealtimeStream
from .refusals import refusal
from .tokens import Client
from .transport import ClientLeft
from .uploads import Upload
from .vosk import VoskStream
from .websocket import WebSocketStream

logger = logging.getLogger("xlsr_live.server")

S = TypeVar("S", bound=WebSocketStream)

UPLOADS: Final[dict[str, type[Upload]]] = {"/v1/audio/transcriptions": Transcription, "/v1/listen": Prerecorded}
INDEX: Final = """xlsr-live: real-time speech recognition

websocket  /v1/stream   audio in, transcripts out (the protocol: docs/protocol.md)
websocket  /            the same in Vosk's protocol (this and those below: docs/clients.md)
websocket  /v1/listen   in Deepgram's
websocket  /v1/realtime in OpenAI's
POST       /v1/audio/transcriptions   a file, as OpenAI's
POST       /v1/listen   a file, as Deepgram's
GET        /v1/models   the model in use
POST       /v1/realtime/client_secrets   a key for a page, as OpenAI's
POST       /v1/ticket   lets a web page open one websocket, soon
GET        /metrics     numbers for Prometheus
GET        /healthz     the process answers
GET        /readyz      new sessions are served
"""


def create_app(admission: Admission) -> Starlette:
    """Make the app. Its streams are among `admission.sessions`, for whoever runs the server to see and drain."""
    service = _Service(admission)
    return Starlette(
        routes=[
            Route("/", service.index),
            Route("/healthz", service.health),
            Route("/readyz", service.ready),
            Route("/metrics", service.metrics),
            Route("/v1/models", service.models),
            Route("/v1/ticket", service.ticket, methods=["POST"]),
            Route("/v1/realtime/client_secrets", service.openai_key(beta=False), methods=["POST"]),
            Route("/v1/realtime/transcription_sessions", service.openai_key(beta=True), methods=["POST"]),
            *(Route(path, service.taking(kind), methods=["POST"]) for path, kind in UPLOADS.items()),
            WebSocketRoute("/v1/stream", service.native),
            WebSocketRoute("/", service.speaking(VoskStream)),
            WebSocketRoute("/v1/listen", service.speaking(DeepgramStream)),
            WebSocketRoute("/v1/realtime", service.speaking(RealtimeStream)),
            WebSocketRoute("/{path:path}", service.elsewhere),
        ]
    )


class _Service:
    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._recognizer = admission.recognizer
        self._settings = admission.settings
        self._sessions = admission.sessions
        self._access = admission.access
        self._stats = admission.stats
        self._kept = admission.kept
        self._exporter = Exporter(self._recognizer, self._sessions, self._stats, self._settings)
        self._started = round(time.time())

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
        model = {"id": info.pop("name"), "object": "model", "created": self._started, "owned_by": "xlsr-live", **info}
        return JSONResponse({"object": "list", "data": [model]})

    async def ticket(self, request: Request) -> Response:
        """A ticket for a page of the one who has the token."""
        if (client := self._access.bearer(request)) is None:
            return refusal(Code.UNAUTHORIZED)
        if (ticket := self._access.tickets.issue(client)) is None:
            return refusal(Code.TOO_MANY_TICKETS)
        answer = {"ticket": ticket, "expires_in": self._settings.ticket_s}
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    def openai_key(self, *, beta: bool) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint for OpenAI's ephemeral keys."""

        async def endpoint(request: Request) -> Response:
            return await openai_keys.issue(request, self._admission, beta=beta)

        return endpoint

    def taking(self, kind: type[Upload]) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a dialect of files."""

        async def endpoint(request: Request) -> Response:
            client = self._admission.client(request)
            if isinstance(client, Code):
                self._stats.refused[client] += 1
                return kind.refused(client)
            logs.session.set(name := secrets.token_hex(4))
            self._access.spend(request)
            return await kind(name, request, self._admission, client).answer()

        return endpoint

    async def native(self, websocket: WebSocket) -> None:
        client = self._admission.client(websocket, may_resume=True)
        stream = await self._serve(NativeStream, websocket, client)
        if not isinstance(client, Code) and stream is not None and stream.resume is not None:
            await self._resume(websocket, client, stream.resume)

    def speaking(self, dialect: type[WebSocketStream]) -> Callable[[WebSocket], Awaitable[None]]:
        """The endpoint of a dialect."""

        async def endpoint(websocket: WebSocket) -> None:
            await self._serve(dialect, websocket, self._admission.client(websocket))

        return endpoint

    async def _serve(self, dialect: type[S], websocket: WebSocket, client: Client | Code) -> S | None:
        if isinstance(client, Code):
            await self._refuse(websocket, dialect, client)
            return None
        logs.session.set(name := secrets.token_hex(4))
        with self._admission.seated(client) as seat:
            try:
                stream = dialect(name, websocket, seat)
            except ConfigError as error:
                await self._refuse(websocket, dialect, Code.BAD_CONFIG, str(error))
                return None
            self._access.spend(websocket)
            with self._sessions.entered(stream):
                await stream.run()
        return stream

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
        except (ClientLeft, WebSocketDisconnect):
            pass

    async def elsewhere(self, websocket: WebSocket) -> None:
        """Any other path; Vosk's clients, on a port of their own, may name any."""
        port = (websocket.scope["server"] or ("", None))[1]
        if port is not None and port == self._settings.vosk_port:
            await self.speaking(VoskStream)(websocket)
        else:
            await self._refuse(websocket, NativeStream, Code.NOT_FOUND)

    async def _refuse(
        self, websocket: WebSocket, dialect: type[WebSocketStream], code: Code, why: str | None = None
    ) -> None:
        self._stats.refused[code] += 1
        await websocket.send_denial_response(dialect.refused(code, why))
