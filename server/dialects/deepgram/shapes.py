"""JSON shapes that Deepgram's live and file interfaces share: words, model, metadata, refusals."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from ....streaming.protocol.codes import Code
from ....streaming.protocol.events import Word
from ...refusals import HTTP_STATUSES, WHY, headers

if TYPE_CHECKING:
    from ....streaming.model.info import ModelInfo

_REFUSALS: Final[dict[str, str]] = {
    Code.UNAUTHORIZED: "INVALID_AUTH",
    Code.FORBIDDEN_ORIGIN: "INSUFFICIENT_PERMISSIONS",
    Code.BAD_CONFIG: "Bad Request",
}


def words(spoken: Iterable[Word], language: str | None = None) -> list[dict[str, Any]]:
    named = {} if language is None else {"language": language}
    return [
        {
            "word": word.word.lower(),
            "start": word.start,
            "end": word.end,
            "confidence": word.confidence,
            "punctuated_word": word.word,
            **named,
        }
        for word in spoken
    ]


def model_info(info: ModelInfo) -> dict[str, str]:
    return {"name": info.name, "version": info.language or "-", "arch": "wav2vec2-ctc"}


def model_id(info: ModelInfo) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, info.name))


def metadata(request: str, sha256: str, duration: float, channels: int) -> dict[str, Any]:
    return {
        "transaction_key": "deprecated",
        "request_id": request,
        "sha256": sha256,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "duration": duration,
        "channels": channels,
    }


def refusal(code: str, why: str | None = None) -> Response:
    message = why or WHY[code]
    body = {"err_code": _REFUSALS.get(code, code), "err_msg": message, "request_id": str(uuid.uuid4())}
    plain = message.encode("ascii", "backslashreplace").decode()
    return JSONResponse(body, HTTP_STATUSES.get(code, 400), {"dg-error": plain, **headers(code)})
