"""The native protocol: what a client may say, and the codes the server answers with when it may not.

The other direction needs no types of its own: the server sends the session's events (`streaming.events`) as they are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from ..streaming.config import AudioFormat, SessionConfig
from ..streaming.errors import XlsrLiveError

VERSION: Final = 1
TOO_DEEP: Final = "the message is nested too deeply"


class Start(AudioFormat, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="start"):
    """The first message, if it is sent at all: how the audio is coded, and the session's settings."""

    version: int = VERSION
    config: SessionConfig = SessionConfig()
    share: bool = False  # others may watch, with a key that the client is told
    resumable: bool = True  # the session waits a while for a client whose connection has broken
    resume: str | None = None  # the token of such a session, to go on with it; nothing else counts then but `events`
    events: Annotated[int, msgspec.Meta(ge=0)] = 0  # of it that the client has seen

    @property
    def audio(self) -> AudioFormat:
        return AudioFormat(encoding=self.encoding, sample_rate=self.sample_rate, channels=self.channels)


class Flush(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="flush"):
    """The utterance ends here, whatever the gate thinks."""


class Hotwords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="hotwords"):
    """From here on these phrases, as in `config.hotwords`, instead of those before."""

    phrases: tuple[str, ...]


class Grammar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="grammar"):
    """From here on the commands of this grammar, as `config.grammar`, instead of those before."""

    text: str


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="end"):
    """No more audio: send the last final and `session_ended`, then close."""


ClientMessage = Start | Flush | Hotwords | Grammar | End


class Code(StrEnum):
    """Every `code` that an `error` event or a refused connection can carry."""

    NOT_JSON = "not_json"
    UNKNOWN_TYPE = "unknown_type"
    BAD_MESSAGE = "bad_message"
    BAD_VERSION = "bad_version"
    BAD_CONFIG = "bad_config"
    BAD_GRAMMAR = "bad_grammar"
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
    CLIENT_FULL = "client_full"
    TOO_MANY_TICKETS = "too_many_tickets"
    SERVER_FULL = "server_full"
    OVERLOADED = "overloaded"
    SHUTTING_DOWN = "shutting_down"
    RESUME_LOST = "resume_lost"
    RELOADING = "reloading"
    RELOAD_FAILED = "reload_failed"


CLOSE: Final[dict[str, int]] = {  # the websocket's close code after an error (RFC 6455, section 7.4.1)
    Code.NOT_JSON: 1007,
    Code.UNKNOWN_TYPE: 1003,
    Code.BAD_MESSAGE: 1007,
    Code.BAD_VERSION: 1003,
    Code.BAD_CONFIG: 1008,
    Code.BAD_GRAMMAR: 1008,
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
REFUSED: Final[dict[str, int]] = {  # the HTTP status when there is no websocket yet
    Code.UNAUTHORIZED: 401,
    Code.FORBIDDEN_ORIGIN: 403,
    Code.NOT_ADMIN: 403,
    Code.NOT_FOUND: 404,
    Code.CLIENT_FULL: 429,
    Code.TOO_MANY_TICKETS: 429,
    Code.SERVER_FULL: 503,
    Code.OVERLOADED: 503,
    Code.SHUTTING_DOWN: 503,
    Code.ENCODER_FAILED: 503,
    Code.RELOADING: 409,
    Code.RELOAD_FAILED: 500,
}


class ProtocolError(XlsrLiveError):
    """The client broke the protocol or a limit."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message, code=code)


class _Head(msgspec.Struct):
    """What must be known of a message before the rest of it can be judged."""

    type: str
    version: int = VERSION


_head = msgspec.json.Decoder(_Head)
_message: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_TYPES: Final = ("start", "flush", "hotwords", "grammar", "end")


def parse(text: str) -> ClientMessage:
    """Read one text message. Raises `ProtocolError`, or `ConfigError` for a setting out of range."""
    try:
        head = _head.decode(text)
        if head.type not in _TYPES:
            raise ProtocolError(
                Code.UNKNOWN_TYPE, f"unknown message type {head.type[:40]!r}; known: {', '.join(_TYPES)}"
            )
        # Before the fields: those of a later version may be unknown here for good reason.
        if head.version != VERSION:
            raise ProtocolError(Code.BAD_VERSION, f"protocol version {head.version} is not spoken here; use {VERSION}")
        return _message.decode(text)
    except msgspec.ValidationError as error:  # its text names the field: "... - at `$.config.vad`"
        raise ProtocolError(Code.BAD_MESSAGE, str(error)) from None
    except msgspec.DecodeError as error:
        raise ProtocolError(Code.NOT_JSON, f"a text message must be one JSON object: {error}") from None
    except RecursionError:
        raise ProtocolError(Code.BAD_MESSAGE, TOO_DEEP) from None
