"""Plain HTTP endpoints: the index, health, metrics, the models, tickets, reloads and shared sessions."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from ...streaming.captions.punctuation import punctuate_pauses
from ...streaming.config import AUTO
from ...streaming.errors import XlsrLiveError
from ...streaming.languages import bcp47
from ...streaming.protocol.codes import Code
from ..net import peers
from ..refusals import Refused
from ..sessions.admission import Admission
from ..sessions.sharing import VIEWER_HEADERS, ViewerResponse
from .all_metrics import of_all_fronts
from .health import unready_reasons
from .metrics import CONTENT_TYPE, Exporter
from .pages import Pages, wants_html
from .reload import Reloader

LISTED: Final = 5_000  # languages of a checkpoint; the largest published ones have about 1,700
INDEX: Final = """xlsr-live: real-time speech recognition

page       /            live captions in a browser
websocket  /v1/stream   audio in, transcripts out (the protocol: docs/protocol.md)
websocket  /            the same in Vosk's protocol (this and those below: docs/clients.md)
websocket  /v1/listen   in Deepgram's
websocket  /v1/realtime in OpenAI's
POST       /v1/audio/transcriptions   a file, as OpenAI's
POST       /v1/audio/translations   a file in English, as OpenAI's
POST       /v1/listen   a file, as Deepgram's
GET        /v1/models   the model in use
POST       /v1/realtime/client_secrets   a key for a page, as OpenAI's
POST       /v1/ticket   a ticket, with which a web page can open one websocket
POST       /v1/reload   read the settings again and load their model
GET        /v1/stream   whether the server would admit a websocket; if not, the reason
GET        /v1/shared/KEY   a shared session's events (docs/protocol.md)
GET        /metrics     metrics for Prometheus
GET        /healthz     the process answers
GET        /readyz      new sessions are served
"""
NO_SESSION: Final = "no shared session has this key; a key expires after its session"
NO_STORE: Final = {"cache-control": "no-store"}


class Endpoints:
    """Every endpoint raises `Refused` for a client that it does not serve."""

    def __init__(self, admission: Admission, reloader: Reloader, pages: Pages) -> None:
        self._admission = admission
        self._models = admission.models
        self._settings = admission.settings
        self._sessions = admission.sessions
        self._sharing = admission.sharing
        self._reloader = reloader
        self._pages = pages
        self._exporter = Exporter(admission)
        self._started = round(time.time())

    async def index(self, request: Request) -> Response:
        """The web page for browsers, a list of endpoints for programs."""
        if wants_html(request):
            return self._pages.answer(request, "index.html")
        return PlainTextResponse(INDEX, headers={"vary": "accept"})

    async def check_admission(self, request: Request) -> Response:
        """Whether the server would admit a native websocket: browsers hide the reason of a refusal from pages."""
        self._admission.admit(request, may_resume=True)
        return Response(status_code=204, headers=NO_STORE)

    async def watch(self, request: Request) -> Response:
        """The events of a shared session, for every client with its key."""
        key, last = request.path_params["key"], request.headers.get("last-event-id", "")
        if (fronts := self._admission.fronts) is not None and (other := fronts.owner(key)) is not None:
            return await self._watch_at(fronts.address(other), key, last)
        if (shared := self._sharing.find(key)) is None:
            raise Refused(Code.NOT_FOUND, NO_SESSION)
        if self._sharing.full:
            raise Refused(Code.SERVER_FULL, "the limit of viewers is reached; try again later")
        return ViewerResponse(self._sharing, shared, last)

    async def _watch_at(self, address: str, key: str, last: str) -> Response:
        """The events of a session of another front."""
        if self._sharing.full:
            raise Refused(Code.SERVER_FULL, "the limit of viewers is reached; try again later")
        sent_id = {"last-event-id": last} if last.isdecimal() else {}
        with suppress(OSError, EOFError):
            answer = await peers.get(address, f"/shared/{quote(key, safe='')}", sent_id)
            if answer.status == 200:
                return StreamingResponse(answer.body, headers=VIEWER_HEADERS, media_type="text/event-stream")
            await answer.body.aclose()
        raise Refused(Code.NOT_FOUND, NO_SESSION)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """200 if new sessions are served; otherwise 503 with the reasons."""
        engine = self._models.current.engine
        reasons = unready_reasons(engine, self._admission)
        state = {
            "ready": not reasons,
            "why": reasons,
            "sessions": self._admission.open_sessions,
            "limit": self._sessions.limit,
            "queued": engine.queued,
            "level": max(self._admission.levels),
            "models": len(self._models),
            "reloading": self._reloader.busy,
        }
        return JSONResponse(state, status_code=503 if reasons else 200)

    async def metrics(self, request: Request) -> Response:
        self._admission.authenticate(request)
        rendered = self._exporter.render()
        if (fronts := self._admission.fronts) is not None:
            rendered = await of_all_fronts(rendered, fronts)
        return Response(rendered, media_type=CONTENT_TYPE)

    async def models(self, request: Request) -> Response:
        """The model in use, as OpenAI lists models."""
        self._admission.authenticate(request)
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """The model in use, by its name."""
        self._admission.authenticate(request)
        model = self._model()
        if request.path_params["name"] != model["id"]:
            raise Refused(Code.NOT_FOUND, f"this server has no such model; it runs {model['id']}")
        return JSONResponse(model)

    def _model(self) -> dict[str, Any]:
        info = msgspec.to_builtins(self._models.current.info)
        return {
            "id": info.pop("name"),
            "object": "model",
            "created": self._started,
            "owned_by": "xlsr-live",
            **info,
            **self._languages(),
            "punctuation": self._models.current.punctuate is not punctuate_pauses,
        }

    def _languages(self) -> dict[str, Any]:
        """BCP 47 tags of the languages that sessions can be translated into, and of the language of the speech if the
        checkpoint has one. Of a multilingual checkpoint the codes of its languages; its `language` is that of sessions
        which name none, and null if they must."""
        current = self._models.current
        answer: dict[str, Any] = {"translates_to": list(current.translates_to)}
        if current.languages.known:
            answer["languages"] = list(current.languages.known[:LISTED])
        elif current.spoken_language:
            answer["spoken_language"] = bcp47(current.spoken_language)
        if current.languages.identifies:
            answer["language"] = AUTO
        return answer

    async def ticket(self, request: Request) -> Response:
        """A ticket for a page of the token's owner."""
        client = self._admission.authenticate(request)
        if (ticket := self._admission.access.tickets.issue(client)) is None:
            raise Refused(Code.TOO_MANY_TICKETS)
        return JSONResponse({"ticket": ticket, "expires_in": self._settings.ticket_s}, headers=NO_STORE)

    async def reload(self, request: Request) -> Response:
        """Read the settings again and load their model; only for tokens marked `admin`."""
        if not self._admission.authenticate(request).admin:
            raise Refused(Code.NOT_ADMIN)
        try:
            return JSONResponse(msgspec.to_builtins(await self._reloader.reload()))
        except XlsrLiveError as error:
            raise Refused(Code(error.code), str(error)) from error
