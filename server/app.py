"""The ASGI app: one model, its websockets, and the few HTTP answers around them."""

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

from ..streaming.errors import ConfigError, XlsrLiveError
from ..streaming.protocol.codes import Code
from ..streaming.protocol.events import Error, to_json
from ..streaming.protocol.messages import Start
from . import logs
from .access.tokens import Client
from .dialects.deepgram.files import Prerecorded
from .dialects.deepgram.live import DeepgramDialect
from .dialects.native import NativeDialect
from .dialects.openai import keys as openai_keys
from .dialects.openai.realtime import RealtimeDialect
from .dialects.openai.transcriptions import Transcription
from .dialects.uploads import Upload
from .dialects.vosk.live import VoskDialect
from .dialects.websocket import WebSocketDialect
from .operations.health import troubles
from .operations.metrics import CONTENT_TYPE, Exporter
from .operations.pages import Pages, wants_html
from .operations.reload import Reloader
from .refusals import CLOSE_CODES, refusal
from .sessions.admission import Admission
from .sessions.sharing import ViewerResponse
from .transport import ClientLeft

logger = logging.getLogger("xlsr_live.server")

S = TypeVar("S", bound=WebSocketDialect)

UPLOADS: Final[dict[str, type[Upload]]] = {"/v1/audio/transcriptions": Transcription, "/v1/listen": Prerecorded}
INDEX: Final = """xlsr-live: real-time speech recognition

page       /            live captions in a browser
websocket  /v1/stream   audio in, transcripts out (the protocol: docs/protocol.md)
websocket  /            the same in Vosk's protocol (this and those below: docs/clients.md)
websocket  /v1/listen   in Deepgram's
websocket  /v1/realtime in OpenAI's
POST       /v1/audio/transcriptions   a file, as OpenAI's
POST       /v1/listen   a file, as Deepgram's
GET        /v1/models   the model in use
POST       /v1/realtime/client_secrets   a key for a page, as OpenAI's
POST       /v1/ticket   lets a web page open one websocket, soon
POST       /v1/reload   changes to the model that the settings name now
GET        /v1/stream   whether a websocket would be let in, and else why not
GET        /v1/shared/KEY   a shared session's events (docs/protocol.md)
GET        /metrics     numbers for Prometheus
GET        /healthz     the process answers
GET        /readyz      new sessions are served
"""


def create_app(admission: Admission, reloader: Reloader) -> Starlette:
    """Make the app. Its streams are among `admission.sessions`, for whoever runs the server to see and drain."""
    service = _Service(admission, reloader)
    return Starlette(
        routes=[
            Route("/", service.index),
            *service.pages.routes(),
            Route("/v1/stream", service.admits),
            Route("/v1/shared/{key}", service.watch),
            Route("/healthz", service.health),
            Route("/readyz", service.ready),
            Route("/metrics", service.metrics),
            Route("/v1/models", service.models),
            Route("/v1/ticket", service.ticket, methods=["POST"]),
            Route("/v1/reload", service.reload, methods=["POST"]),
            Route("/v1/realtime/client_secrets", service.openai_key(beta=False), methods=["POST"]),
            Route("/v1/realtime/transcription_sessions", service.openai_key(beta=True), methods=["POST"]),
            *(Route(path, service.taking(kind), methods=["POST"]) for path, kind in UPLOADS.items()),
            WebSocketRoute("/v1/stream", service.native),
            WebSocketRoute("/", service.speaking(VoskDialect)),
            WebSocketRoute("/v1/listen", service.speaking(DeepgramDialect)),
            WebSocketRoute("/v1/realtime", service.speaking(RealtimeDialect)),
            WebSocketRoute("/{path:path}", service.elsewhere),
        ]
    )


class _Service:
    def __init__(self, admission: Admission, reloader: Reloader) -> None:
        self._admission = admission
        self._models = admission.models
        self._reloader = reloader
        self._settings = admission.settings
        self._sessions = admission.sessions
        self._access = admission.access
        self._stats = admission.stats
        self._resume_store = admission.resume_store
        self._sharing = admission.sharing
        self.pages = Pages()
        self._exporter = Exporter(self._models, self._sessions, self._stats, self._settings, self._sharing)
        self._started = round(time.time())

    async def index(self, request: Request) -> Response:
        """The web page for browsers, a list of what there is for everybody else."""
        if wants_html(request):
            return self.pages.answer(request, "index.html")
        return PlainTextResponse(INDEX, headers={"vary": "accept"})

    async def admits(self, request: Request) -> Response:
        """What a websocket of the native protocol would be answered: browsers do not tell pages."""
        client = self._admission.client(request, may_resume=True)
        if isinstance(client, Code):
            return self._no(request, client)
        return Response(status_code=204, headers={"cache-control": "no-store"})

    async def watch(self, request: Request) -> Response:
        """A shared session, for whoever has its key."""
        if (shared := self._sharing.find(request.path_params["key"])) is None:
            return refusal(Code.NOT_FOUND, "no session is shared under this key; the key ends with its session")
        if self._sharing.full:
            return refusal(Code.SERVER_FULL, "as many people watch as may; try again later")
        return ViewerResponse(self._sharing, shared, request.headers.get("last-event-id", ""))

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """200 while a new session would be served; else 503, and why."""
        engine = self._models.current.engine
        why = troubles(engine, self._sessions, self._settings)
        state = {
            "ready": not why,
            "why": why,
            "sessions": self._sessions.count,
            "limit": self._sessions.limit,
            "queued": engine.queued,
            "level": int(engine.level),
            "models": len(self._models),
            "reloading": self._reloader.busy,
        }
        return JSONResponse(state, status_code=503 if why else 200)

    async def metrics(self, request: Request) -> Response:
        if self._access.bearer(request) is None:
            return self._no(request, Code.UNAUTHORIZED)
        return Response(self._exporter.render(), media_type=CONTENT_TYPE)

    async def models(self, request: Request) -> Response:
        if self._access.bearer(request) is None:
            return self._no(request, Code.UNAUTHORIZED)
        info = msgspec.to_builtins(self._models.current.info)
        model = {"id": info.pop("name"), "object": "model", "created": self._started, "owned_by": "xlsr-live", **info}
        return JSONResponse({"object": "list", "data": [model]})

    async def ticket(self, request: Request) -> Response:
        """A ticket for a page of the one who has the token."""
        if (client := self._access.bearer(request)) is None:
            return self._no(request, Code.UNAUTHORIZED)
        if (ticket := self._access.tickets.issue(client)) is None:
            return self._no(request, Code.TOO_MANY_TICKETS)
        answer = {"ticket": ticket, "expires_in": self._settings.ticket_s}
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    async def reload(self, request: Request) -> Response:
        """Change to the model that the settings name now, if the one who asks may."""
        if (client := self._access.bearer(request)) is None:
            return self._no(request, Code.UNAUTHORIZED)
        if not client.admin:
            return self._no(request, Code.NOT_ADMIN)
        try:
            return JSONResponse(msgspec.to_builtins(await self._reloader.reload()))
        except XlsrLiveError as error:
            return refusal(Code(error.code), str(error))

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
                self._admission.refused(request, client)
                return kind.refused(client)
            logs.session.set(name := secrets.token_hex(4))
            self._access.spend(request)
            return await kind(name, request, self._admission, client).answer()

        return endpoint

    async def native(self, websocket: WebSocket) -> None:
        client = self._admission.client(websocket, may_resume=True)
        stream = await self._serve(NativeDialect, websocket, client)
        if not isinstance(client, Code) and stream is not None and stream.resume is not None:
            await self._resume(websocket, client, stream.resume)

    def speaking(self, dialect: type[WebSocketDialect]) -> Callable[[WebSocket], Awaitable[None]]:
        """The endpoint of a dialect."""

        async def endpoint(websocket: WebSocket) -> None:
            await self._serve(dialect, websocket, self._admission.client(websocket))

        return endpoint

    async def _serve(self, dialect: type[S], websocket: WebSocket, client: Client | Code) -> S | None:
        if isinstance(client, Code):
            await self._refuse(websocket, dialect, client)
            return None
        logs.session.set(name := secrets.token_hex(4))
        with self._admission.lease(client) as lease:
            try:
                stream = dialect(name, websocket, lease)
            except ConfigError as error:
                await self._refuse(websocket, dialect, Code.BAD_CONFIG, str(error))
                return None
            self._access.spend(websocket)
            with lease.registered(stream):
                await stream.run()
        return stream

    async def _resume(self, websocket: WebSocket, client: Client, start: Start) -> None:
        """Give the websocket to the session that it belongs to."""
        stream = self._resume_store.find(start.resume or "", client, named=self._access.tokens.required)
        try:
            if stream is not None:
                logs.session.set(stream.name)
                logger.info("client comes back", extra=logs.fields(events=start.events))
                if stream.finished and await stream.send_missed(websocket, start.events):
                    return
                if (in_use := stream.resume_over(websocket, start.events)) is not None:
                    self._stats.resumed += 1
                    await in_use
                    return
            lost = Error(code=Code.RESUME_LOST, message="that session is not kept any more; start another")
            self._stats.errors[Code.RESUME_LOST] += 1
            await websocket.send_text(to_json(lost))
            await websocket.close(CLOSE_CODES[Code.RESUME_LOST], Code.RESUME_LOST)
        except (ClientLeft, WebSocketDisconnect):
            pass

    async def elsewhere(self, websocket: WebSocket) -> None:
        """Any other path; Vosk's clients, on a port of their own, may name any."""
        port = (websocket.scope["server"] or ("", None))[1]
        if port is not None and port == self._settings.vosk_port:
            await self.speaking(VoskDialect)(websocket)
        else:
            await self._refuse(websocket, NativeDialect, Code.NOT_FOUND)

    def _no(self, request: Request, code: Code) -> Response:
        self._admission.refused(request, code)
        return refusal(code)

    async def _refuse(
        self, websocket: WebSocket, dialect: type[WebSocketDialect], code: Code, why: str | None = None
    ) -> None:
        self._admission.refused(websocket, code)
        await websocket.send_denial_response(dialect.refused(code, why))
