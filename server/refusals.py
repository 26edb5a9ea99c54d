"""What stands in the way of a connection, in the words of the native protocol; other dialects borrow the sentences."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from ..streaming.events import Error, to_json
from .messages import REFUSED, Code

WHY: Final[dict[str, str]] = {
    Code.UNAUTHORIZED: "send the server's token as `Authorization: Bearer <token>`",
    Code.FORBIDDEN_ORIGIN: "pages of this origin may not use the server; it must be started with the origin allowed",
    Code.NOT_FOUND: "there is no websocket at this path; the native protocol is at /v1/stream",
    Code.SERVER_FULL: "all sessions are taken; try again later",
    Code.SHUTTING_DOWN: "the server is stopping; try again later",
    Code.ENCODER_FAILED: "the model has failed; the server must be started again",
}


def headers(code: str) -> dict[str, str]:
    """HTTP headers that go with a refusal."""
    match code:
        case Code.UNAUTHORIZED:
            return {"www-authenticate": "Bearer"}
        case Code.SERVER_FULL:
            return {"retry-after": "5"}
        case _:
            return {}


def refusal(code: Code, why: str | None = None) -> Response:
    body = to_json(Error(code=code, message=why or WHY[code]))
    return Response(body, status_code=REFUSED.get(code, 400), headers=headers(code), media_type="application/json")
