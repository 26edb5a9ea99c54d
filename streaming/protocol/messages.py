"""The messages that a client sends over the native protocol: the client encodes them, the server parses them.

The other direction needs no types of its own: the server sends the session's events (`events`) as they are.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

import msgspec

from ..config import AudioFormat, Origin, SessionConfig
from .codes import Code, ProtocolError

VERSION: Final = 1
LONGEST_TITLE: Final = 200  # characters
TOO_DEEP: Final = "the message is nested too deeply"


class Start(AudioFormat, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="start"):
    """The first message; optional. It gives the audio format and the session's settings, or resumes a session, or
    continues one of another server.
    """

    version: int = VERSION
    config: SessionConfig = SessionConfig()
    share: bool = False  # let others watch, with a key that `session_started` carries
    resumable: bool = True  # keep the session for a while when the connection breaks
    resume: str | None = None  # token of the session to resume; all other fields but `events` are then ignored
    origin: Origin | None = None  # where the session of another server continues here
    events: Annotated[int, msgspec.Meta(ge=0)] = 0  # number of that session's events that the client has received

    @property
    def audio(self) -> AudioFormat:
        return AudioFormat(encoding=self.encoding, sample_rate=self.sample_rate, channels=self.channels)


class Flush(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="flush"):
    """End the utterance here, whatever the gate decides."""


class Hotwords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="hotwords"):
    """Replace the hotwords from here on; phrases are written as in `config.hotwords`."""

    phrases: tuple[str, ...]


class Grammar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="grammar"):
    """Replace the grammar from here on; the text is written as in `config.grammar`."""

    text: str


class SetLanguage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="set_language"):
    """Choose the language of utterances whose speech begins from here on, as in `config`."""

    language: str | None  # None: the model's default
    allowed_languages: tuple[str, ...] = ()


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="share"):
    """Let others watch from here on, with a key that the event `shared` carries. Sent again, it changes the title.
    With `on` false the key is void at once.
    """

    title: Annotated[str, msgspec.Meta(max_length=LONGEST_TITLE)] = ""  # for viewers
    on: bool = True


class Movable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="movable"):
    """This client moves its session to another server when it receives `moving`."""


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="end"):
    """No more audio: the server sends the last final and `session_ended`, then closes."""


ClientMessage = Start | Flush | Hotwords | Grammar | SetLanguage | Share | Movable | End


class _Head(msgspec.Struct):
    """The fields that decide whether the rest can be parsed."""

    type: str
    version: int = VERSION


_encoder = msgspec.json.Encoder()
_head = msgspec.json.Decoder(_Head)
_message: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_TYPES: Final = tuple(str(kind.__struct_config__.tag) for kind in get_args(ClientMessage))


def to_json(message: ClientMessage) -> str:
    """One JSON object. Settings at their defaults are left out, so the server's own defaults apply."""
    if not isinstance(message, Start):
        return _encoder.encode(message).decode()
    first = {"type": "start", "version": message.version, **msgspec.to_builtins(message.audio)}
    return _encoder.encode(first | _changed(message) | {"config": _changed(message.config)}).decode()


def _changed(settings: Start | SessionConfig) -> dict[str, Any]:
    """The fields whose values are not the defaults."""
    defaults = msgspec.to_builtins(type(settings)())
    return {name: value for name, value in msgspec.to_builtins(settings).items() if value != defaults[name]}


def parse(text: str) -> ClientMessage:
    """Parse one text message. Raises `ProtocolError`, or `ConfigError` for a setting out of range."""
    try:
        head = _head.decode(text)
        if head.type not in _TYPES:
            raise ProtocolError(
                Code.UNKNOWN_TYPE, f"unknown message type {head.type[:40]!r}; known: {', '.join(_TYPES)}"
            )
        # Check the version before the fields: a later version may have fields that are unknown here.
        if head.version != VERSION:
            raise ProtocolError(Code.BAD_VERSION, f"protocol version {head.version} is not supported; use {VERSION}")
        return _message.decode(text)
    except msgspec.ValidationError as error:  # its text names the field: "... - at `$.config.vad`"
        raise ProtocolError(Code.BAD_MESSAGE, str(error)) from None
    except msgspec.DecodeError as error:
        raise ProtocolError(Code.NOT_JSON, f"a text message must be one JSON object: {error}") from None
    except RecursionError:
        raise ProtocolError(Code.BAD_MESSAGE, TOO_DEEP) from None
