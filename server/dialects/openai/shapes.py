"""JSON shapes that OpenAI's Realtime and HTTP interfaces share: errors, turn detection, log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from starlette.responses import JSONResponse, Response

from ....streaming.config import SessionConfig
from ....streaming.errors import ConfigError
from ....streaming.protocol.codes import Code
from ....streaming.protocol.events import Final
from ...refusals import HTTP_STATUSES, WHY, headers
from ..mapping import with_pause

_EAGERNESS = {"low": 1_200, "high": 300}  # ms of silence; for others the default of `hangover_ms`


def error(message: str, *, code: str | None = None, param: str | None = None, kind: str = "") -> dict[str, Any]:
    return {"type": kind or "invalid_request_error", "code": code, "message": message, "param": param}


def refusal(code: str, why: str | None = None, param: str | None = None) -> Response:
    status = HTTP_STATUSES.get(code, 400)
    named = "invalid_api_key" if code == Code.UNAUTHORIZED else code
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"error": error(why or WHY[code], code=named, param=param, kind=kind)}
    return JSONResponse(body, status, headers(code))


def turn_settings(wanted: Any) -> SessionConfig:
    """The session settings for `turn_detection` or `chunking_strategy`. Raises `ConfigError`."""
    match wanted:
        case None:
            return SessionConfig(vad="none")
        case "auto":
            return SessionConfig()
        case {"type": "semantic_vad"}:
            return with_pause(_EAGERNESS.get(str(wanted.get("eagerness")), SessionConfig().hangover_ms))
        case {"type": "server_vad"}:
            defaults = SessionConfig()
            threshold = _number(wanted, "threshold", defaults.vad_threshold, 1)
            padding = _number(wanted, "prefix_padding_ms", defaults.pre_roll_ms, 2_000)
            silence = _number(wanted, "silence_duration_ms", defaults.hangover_ms, 10_000)
            found = SessionConfig(vad_threshold=min(max(0.2, threshold), 0.99), pre_roll_ms=round(padding))
            return with_pause(silence, found)
        case _:
            raise ConfigError("turn detection must be null or of type server_vad or semantic_vad")


def _number(wanted: dict[str, Any], name: str, default: float, most: float) -> float:
    value = wanted.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ConfigError(f"{name} must be a number from 0 to {most:g}")
    return value


def log_probabilities(finals: Iterable[Final], separator: Callable[[Final], str]) -> list[dict[str, Any]]:
    """Words take the place of tokens: joined they are the text. `separator` is that between words of a final."""
    tokens: list[dict[str, Any]] = []
    for final in finals:
        for word in final.words:
            token = (separator(final) if tokens else "") + word.word
            confidence = math.log(max(word.confidence, 1e-9))
            tokens.append({"token": token, "bytes": list(token.encode()), "logprob": round(confidence, 6)})
    return tokens
