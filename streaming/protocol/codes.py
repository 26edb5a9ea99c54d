"""Every `code` that an `error` event or a refused connection can carry."""

from __future__ import annotations

from enum import StrEnum

from ..errors import XlsrLiveError


class Code(StrEnum):
    """Codes of `error` and `warning` events and of refusals."""

    NOT_JSON = "not_json"
    UNKNOWN_TYPE = "unknown_type"
    BAD_MESSAGE = "bad_message"
    BAD_VERSION = "bad_version"
    BAD_CONFIG = "bad_config"
    BAD_GRAMMAR = "bad_grammar"
    BAD_MODEL = "bad_model"
    UNEXPECTED_MESSAGE = "unexpected_message"
    MESSAGE_TOO_LARGE = "message_too_large"
    BAD_AUDIO = "bad_audio"
    TRUNCATED_SAMPLE = "truncated_sample"
    AUDIO_TOO_SHORT = "audio_too_short"
    IDLE_TIMEOUT = "idle_timeout"
    SESSION_TOO_LONG = "session_too_long"
    SLOW_READER = "slow_reader"
    ENCODER_FAILED = "encoder_failed"
    INTERNAL_ERROR = "internal_error"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN_ORIGIN = "forbidden_origin"
    NOT_ADMIN = "not_admin"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CLIENT_FULL = "client_full"
    TOO_MANY_TICKETS = "too_many_tickets"
    SERVER_FULL = "server_full"
    OVERLOADED = "overloaded"
    SHUTTING_DOWN = "shutting_down"
    RESUME_LOST = "resume_lost"
    RELOADING = "reloading"
    RELOAD_FAILED = "reload_failed"


class ProtocolError(XlsrLiveError):
    """The client broke the protocol or a limit."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message, code=code)
