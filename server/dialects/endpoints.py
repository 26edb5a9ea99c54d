"""Endpoints of the dialects: a client is admitted, leases a slot, and its dialect runs."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from ...streaming.errors import ConfigError
from ...streaming.protocol.codes import Code
from ...streaming.protocol.events import Error, to_json
from ...streaming.protocol.messages import Start
from .. import logs
from ..access.tokens import Client
from ..net.peers import Relay
from ..refusals import CLOSE_CODES, Refused
from ..sessions.admission import Admission
from ..transport import ClientLeft
from .native import NativeDialect
from .uploads import Upload
from .vosk.live import VoskDialect
from .websocket import WebSocketDialect

logger = logging.getLogger("xlsr_live.server")

S = TypeVar("S", bound=WebSocketDialect)
HttpEndpoint = Callable[[Request], Awaitable[Response]]
WebSocketEndpoint = Callable[[WebSocket], Awaitable[None]]


def upload(admission: Admission, dialect: type[Upload]) -> HttpEndpoint:
    """An endpoint for files."""

    async def endpoint(request: Request) -> Response:
        client = admission.admit(request)
        logs.session.set(name := secrets.token_hex(4))
        if not admission.access.spend(request):
            raise Refused(Code.UNAUTHORIZED)
        return await dialect(name, request, admission, client).answer()

    return endpoint


def websocket(admission: Admission, dialect: type[WebSocketDialect]) -> WebSocketEndpoint:
    """An endpoint for live audio."""

    async def endpoint(websocket: WebSocket) -> None:
        await _serve(admission, dialect, websocket, admission.admit(websocket))

    return endpoint


def native(admission: Admission) -> WebSocketEndpoint:
    """The endpoint of the native protocol, whose clients may resume a session."""

    async def endpoint(websocket: WebSocket) -> None:
        client = admission.admit(websocket, may_resume=True)
        stream = await _serve(admission, NativeDialect, websocket, client)
        if stream.resume is not None:
            await _resume(admission, websocket, client, stream.resume)

    return endpoint


def other_paths(admission: Admission) -> WebSocketEndpoint:
    """The endpoint of every other path: on Vosk's port, clients may use any."""
    vosk = websocket(admission, VoskDialect)

    async def endpoint(websocket: WebSocket) -> None:
        port = (websocket.scope["server"] or ("", None))[1]
        if port is None or port != admission.settings.vosk_port:
            raise Refused(Code.NOT_FOUND)
        await vosk(websocket)

    return endpoint


async def _serve(admission: Admission, dialect: type[S], websocket: WebSocket, client: Client) -> S:
    logs.session.set(name := secrets.token_hex(4))
    with admission.lease(client) as lease:
        try:
            stream = dialect(name, websocket, lease)
        except ConfigError as error:
            raise Refused(Code.BAD_CONFIG, str(error)) from None
        if not admission.access.spend(websocket):
            raise Refused(Code.UNAUTHORIZED)
        with lease.registered(stream):
            await stream.run()
    return stream


class Handover(msgspec.Struct):
    """A client that resumes a session: what another front must know of it."""

    client: Client
    token: str
    events: int  # that it has received


async def _resume(admission: Admission, websocket: WebSocket, client: Client, start: Start) -> None:
    """Hand the websocket to the session that the client resumes, here or at the front that has it."""
    fronts, handover = admission.fronts, Handover(client, start.resume or "", start.events)
    if fronts is not None and (other := fronts.owner(handover.token)) is not None:
        relay = Relay(secrets.token_hex(4), websocket, admission.settings.hard_limit_bytes)
        with admission.sessions.registered(relay, slots=0):
            if await relay.run(fronts.address(other), msgspec.json.encode(handover).decode()):
                return
    await resume_here(admission, websocket, handover)


async def resume_here(admission: Admission, websocket: WebSocket, handover: Handover) -> None:
    """Hand the websocket to the session of this front that the client resumes."""
    named = admission.access.tokens.required
    stream, events = admission.resume_store.find(handover.token, handover.client, named=named), handover.events
    try:
        if stream is not None:
            logs.session.set(stream.name)
            logger.info("resumed", extra=logs.fields(events=events))
            if stream.finished and await stream.send_missed(websocket, events):
                return
            if (in_use := stream.resume_over(websocket, events)) is not None:
                admission.stats.resumed += 1
                await in_use
                return
        lost = Error(code=Code.RESUME_LOST, message="the session no longer exists; start another one")
        admission.stats.errors[Code.RESUME_LOST] += 1
        await websocket.send_text(to_json(lost))
        await websocket.close(CLOSE_CODES[Code.RESUME_LOST], Code.RESUME_LOST)
    except (ClientLeft, WebSocketDisconnect):
        pass
