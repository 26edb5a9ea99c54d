"""OpenAI's ephemeral keys, which the owner of a token hands to web pages. A key holds a ticket and the settings of the
page's session, so the server stores no settings.
"""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from ....streaming.errors import ConfigError, ModelError
from ....streaming.protocol.codes import Code
from ...access.access import ephemeral
from ...refusals import Refused
from ...sessions.admission import Admission
from .session_setup import default_setup
from .shapes import refusal

LARGEST: Final = 4_096  # bytes of settings, since keys travel in headers


async def issue(request: Request, admission: Admission, *, beta: bool) -> Response:
    """Answer `POST client_secrets`, or the beta's `transcription_sessions`. Raises `Refused`."""
    client = admission.authenticate(request)
    try:
        asked = msgspec.json.decode(await _body(request), type=dict[str, Any])
        session = asked if beta else msgspec.convert(asked.get("session") or {}, dict[str, Any])
        setup = await asyncio.to_thread(default_setup().changed, session, admission.models.current)
    except (ConfigError, ModelError, RecursionError, ValueError) as error:  # msgspec's are ValueErrors
        return refusal(Code.BAD_MESSAGE, str(error))
    if (ticket := admission.access.tickets.issue(client)) is None:
        raise Refused(Code.TOO_MANY_TICKETS)
    settings = urlsafe_b64encode(msgspec.json.encode(session)).decode().rstrip("=")
    expires = round(time.time() + admission.settings.ticket_s)
    secret = {"value": f"ek_{ticket}.{settings}", "expires_at": expires}
    shown = setup.describe(ticket[:8], expires, beta=beta)
    answer = {**shown, "client_secret": secret} if beta else {**secret, "session": shown}
    return JSONResponse(answer, headers={"cache-control": "no-store"})


def settings(connection: HTTPConnection) -> dict[str, Any]:
    """The settings in the client's key, {} if the key is not ephemeral. Raises `ConfigError`."""
    _, _, coded = (ephemeral(connection) or "").partition(".")
    try:
        return msgspec.json.decode(urlsafe_b64decode(coded + "=" * (-len(coded) % 4)) or b"{}", type=dict[str, Any])
    except (RecursionError, ValueError):
        raise ConfigError("the key is damaged") from None


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            raise ConfigError(f"the settings may have {LARGEST} bytes at most")
    return body or b"{}"
