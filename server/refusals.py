"""How the server says no before there is a websocket: an HTTP status, and why as JSON."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from ..streaming.protocol.events import Error, to_json
from .messages import REFUSED, Code

WHY: Final[dict[str, str]] = {
    Code.UNAUTHORIZED: "send a token of the server as `Authorization: Bearer <token>`, or a ticket that is still good",
    Code.FORBIDDEN_ORIGIN: "pages of this origin may not use the server; it must be started with the origin allowed",
    Code.NOT_ADMIN: "only a token that is marked `admin` in the file of tokens may ask for that",
    Code.NOT_FOUND: "there is no websocket at this path; the native protocol is at /v1/stream",
    Code.CLIENT_FULL: "this client has all the sessions it may have; end one, or try again later",
    Code.TOO_MANY_TICKETS: "too many tickets of this client are unused; use them, or try again later",
    Code.SERVER_FULL: "all sessions are taken; try again later",
    Code.OVERLOADED: "the server has more to do than it can; try again later",
    Code.SHUTTING_DOWN: "the server is stopping; try again later",
    Code.ENCODER_FAILED: "the model does not answer; try again later",
}
_RETRY_AFTER_S: Final[dict[str, int]] = {
    Code.CLIENT_FULL: 5,
    Code.TOO_MANY_TICKETS: 5,
    Code.SERVER_FULL: 5,
    Code.OVERLOADED: 10,
    Code.SHUTTING_DOWN: 10,
    Code.ENCODER_FAILED: 30,
    Code.RELOADING: 10,
}


def headers(code: str) -> dict[str, str]:
    """HTTP headers that go with a refusal."""
    if code == Code.UNAUTHORIZED:
        return {"www-authenticate": "Bearer"}
    return {"retry-after": str(_RETRY_AFTER_S[code])} if code in _RETRY_AFTER_S else {}


def refusal(code: Code, why: str | None = None) -> Response:
    body = to_json(Error(code=code, message=why or WHY[code]))
    return Response(body, status_code=REFUSED.get(code, 400), headers=headers(code), media_type="application/json")
