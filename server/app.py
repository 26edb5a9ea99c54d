"""The ASGI app: its routes and error responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from ..streaming.protocol.codes import Code
from . import refusals
from .access.cors import AllowedOrigins
from .dialects import endpoints as dialects
from .dialects.deepgram import shapes as deepgram
from .dialects.deepgram.files import Prerecorded
from .dialects.deepgram.live import DeepgramDialect
from .dialects.openai import keys as openai_keys
from .dialects.openai import shapes as openai
from .dialects.openai.realtime import RealtimeDialect
from .dialects.openai.transcriptions import Transcription
from .dialects.openai.translations import EnglishTranslation
from .dialects.uploads import Upload
from .dialects.vosk.live import VoskDialect
from .operations.endpoints import Endpoints
from .operations.pages import Pages
from .operations.reload import Reloader
from .refusals import Refused
from .sessions.admission import Admission

UPLOADS: Final[dict[str, type[Upload]]] = {
    "/v1/audio/transcriptions": Transcription,
    "/v1/audio/translations": EnglishTranslation,
    "/v1/listen": Prerecorded,
}
Refusal = Callable[[Code, str | None], Response]  # from a code and a message
NATIVE_PATHS: Final = ("/v1/stream", "/v1/shared", "/v1/ticket", "/v1/reload")
DEEPGRAM_PATHS: Final = ("/v1/listen", "/v2/listen", "/v1/speak", "/v1/read", "/v1/projects", "/v1/auth")


def create_app(admission: Admission, reloader: Reloader) -> Starlette:
    """Make the app. `admission.sessions` holds its open streams."""
    pages = Pages()
    http = Endpoints(admission, reloader, pages)

    async def client_secrets(request: Request) -> Response:
        return await openai_keys.issue(request, admission, beta=False)

    async def transcription_sessions(request: Request) -> Response:
        return await openai_keys.issue(request, admission, beta=True)

    return Starlette(
        routes=[
            Route("/", http.index),
            *pages.routes(),
            Route("/healthz", http.health),
            Route("/readyz", http.ready),
            Route("/metrics", http.metrics),
            Route("/v1/stream", http.check_admission),
            Route("/v1/shared/{key}", http.watch),
            Route("/v1/ticket", http.ticket, methods=["POST"]),
            Route("/v1/reload", http.reload, methods=["POST"]),
            Route("/v1/models", http.models),
            Route("/v1/models/{name:path}", http.model),
            Route("/v1/realtime/client_secrets", client_secrets, methods=["POST"]),
            Route("/v1/realtime/transcription_sessions", transcription_sessions, methods=["POST"]),
            *(Route(path, dialects.upload(admission, dialect), methods=["POST"]) for path, dialect in UPLOADS.items()),
            WebSocketRoute("/v1/stream", dialects.native(admission)),
            WebSocketRoute("/", dialects.websocket(admission, VoskDialect)),
            WebSocketRoute("/v1/listen", dialects.websocket(admission, DeepgramDialect)),
            WebSocketRoute("/v1/realtime", dialects.websocket(admission, RealtimeDialect)),
            WebSocketRoute("/{path:path}", dialects.other_paths(admission)),
        ],
        middleware=[Middleware(AllowedOrigins, access=admission.access)],
        exception_handlers=_error_handlers(admission),
    )


def _error_handlers(admission: Admission) -> dict[Any, Any]:
    async def refuse(connection: Request | WebSocket, error: Refused) -> Response | None:
        admission.count_refusal(connection, error.code)
        response = refusal_for(connection.scope["path"])(error.code, error.why)
        if isinstance(connection, Request):
            return response
        await connection.send_denial_response(response)
        return None

    async def no_route(request: Request, error: HTTPException) -> Response:
        code = Code.METHOD_NOT_ALLOWED if error.status_code == 405 else Code.NOT_FOUND
        response = refusal_for(request.scope["path"])(code, None)
        response.headers.update(error.headers or {})
        return response

    async def failed(request: Request, error: Exception) -> Response:  # Starlette raises the error again, to be logged
        return refusal_for(request.scope["path"])(Code.INTERNAL_ERROR, None)

    return {Refused: refuse, 404: no_route, 405: no_route, 500: failed}


def refusal_for(path: str) -> Refusal:
    """The function that makes error responses in the shape that clients of the path expect."""
    if path.startswith(DEEPGRAM_PATHS):
        return deepgram.refusal
    if path.startswith("/v1/") and not path.startswith(NATIVE_PATHS):
        return openai.refusal
    return refusals.refusal
