"""Refusals: an HTTP status with the reason as JSON, or the close code of a websocket."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from ..streaming.protocol.codes import Code
from ..streaming.protocol.events import Error, to_json

CLOSE_CODES: Final[dict[str, int]] = {  # the websocket's close code after an error (RFC 6455, section 7.4.1)
    Code.NOT_JSON: 1007,
    Code.UNKNOWN_TYPE: 1003,
    Code.BAD_MESSAGE: 1007,
    Code.BAD_VERSION: 1003,
    Code.BAD_CONFIG: 1008,
    Code.BAD_GRAMMAR: 1008,
    Code.BAD_MODEL: 1011,
    Code.UNEXPECTED_MESSAGE: 1008,
    Code.MESSAGE_TOO_LARGE: 1009,
    Code.BAD_AUDIO: 1007,
    Code.TRUNCATED_SAMPLE: 1007,
    Code.AUDIO_TOO_SHORT: 1007,
    Code.IDLE_TIMEOUT: 1008,
    Code.SESSION_TOO_LONG: 1008,
    Code.SLOW_READER: 1008,
    Code.ENCODER_FAILED: 1011,
    Code.INTERNAL_ERROR: 1011,
    Code.SHUTTING_DOWN: 1001,
    Code.OVERLOADED: 1013,  # "try again later"
    Code.CLIENT_FULL: 1013,
    Code.SERVER_FULL: 1013,
    Code.RESUME_LOST: 1008,
}
HTTP_STATUSES: Final[dict[str, int]] = {  # the HTTP status before a websocket exists
    Code.UNAUTHORIZED: 401,
    Code.FORBIDDEN_ORIGIN: 403,
    Code.NOT_ADMIN: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.CLIENT_FULL: 429,
    Code.TOO_MANY_TICKETS: 429,
    Code.SERVER_FULL: 503,
    Code.OVERLOADED: 503,
    Code.SHUTTING_DOWN: 503,
    Code.ENCODER_FAILED: 503,
    Code.INTERNAL_ERROR: 500,
    Code.RELOADING: 409,
    Code.RELOAD_FAILED: 500,
}
WHY: Final[dict[str, str]] = {
    Code.UNAUTHORIZED: "send a token as `Authorization: Bearer <token>`; without headers, connect with "
    "`?ticket=<ticket>`, which POST /v1/ticket issues",
    Code.FORBIDDEN_ORIGIN: "pages of this origin may not use the server; the setting `origins` must name it",
    Code.NOT_ADMIN: "only a token marked `admin` in the tokens file may do that",
    Code.NOT_FOUND: "there is nothing at this path; the native websocket is at /v1/stream, and GET / lists all paths",
    Code.METHOD_NOT_ALLOWED: "this path does not have that method; see the header Allow",
    Code.CLIENT_FULL: "this client has reached its limit of sessions; end one, or try again later",
    Code.TOO_MANY_TICKETS: "this client has too many unused tickets; use them, or try again later",
    Code.SERVER_FULL: "all sessions are taken; try again later",
    Code.OVERLOADED: "the server is overloaded; try again later",
    Code.SHUTTING_DOWN: "the server is stopping; try again later",
    Code.INTERNAL_ERROR: "the server failed; see its log",
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


class Refused(Exception):
    """The server refuses a client. `why` replaces the default message of `code`."""

    def __init__(self, code: Code, why: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.why = why


def headers(code: str) -> dict[str, str]:
    """HTTP headers that go with a refusal."""
    if code == Code.UNAUTHORIZED:
        return {"www-authenticate": "Bearer"}
    return {"retry-after": str(_RETRY_AFTER_S[code])} if code in _RETRY_AFTER_S else {}


def refusal(code: Code, why: str | None = None) -> Response:
    body = to_json(Error(code=code, message=why or WHY[code]))
    return Response(
        body, status_code=HTTP_STATUSES.get(code, 400), headers=headers(code), media_type="application/json"
    )
