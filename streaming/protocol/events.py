"""The events of a session: frozen, one class for each kind, the same in Python and as JSON on the wire.

Their order is fixed: `session_started`, then for each utterance `speech_started`, one `language` if it is identified,
any number of `partial`, at most one `final`, and `speech_ended`; then `session_ended`. An utterance without words
(noise that opened the gate) has no `final`: at its `speech_ended` a reader drops the last partial. In a session with a
grammar each utterance has one `command` or one `rejected`: right before `speech_ended`, or an early `command` among the
partials. A session that translates has `translation`s at any place after their `final`. `warning` and `error` may come
at any place.
"""

from __future__ import annotations

import msgspec

from ..errors import EventError
from .messages import VERSION


class Word(msgspec.Struct, frozen=True):
    """A word of a partial or final, with its times and confidence."""

    word: str
    start: float  # seconds from the start of the session
    end: float  # seconds from the start of the session
    confidence: float  # 0..1; without a calibration exp of the mean log-probability of its tokens at their best frames
    committed: bool = True  # False: may still change


class Alternative(msgspec.Struct, frozen=True):
    """A hypothesis of the language model's search."""

    text: str
    score: float  # nats, higher is better; comparable within one final


Value = int | str  # content of a command's slot
Slots = dict[str, Value | list[Value | list[Value]]]


class Guess(msgspec.Struct, frozen=True):
    """A possible command."""

    command: str
    slots: Slots
    text: str
    score: float  # 0..1

    def __hash__(self) -> int:
        return hash((self.command, self.text, self.score))


class _Stamped(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Base of all events. Equality ignores these two fields, which come last in JSON."""

    lag_ms: float = 0.0  # from the arrival of the newest audio that the event is about to the event
    level: int = 0  # how much the service gives up (`overload.Level`)

    def _content(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name not in ("lag_ms", "level"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Stamped) and type(self) is type(other) and self._content() == other._content()

    def __ne__(self, other: object) -> bool:  # msgspec's own does not call __eq__
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), tuple(each for each in self._content() if not isinstance(each, dict))))


class SessionStarted(_Stamped, frozen=True, tag="session_started"):
    """The first event of a session: its name, model and actual mode."""

    session: str
    model: str
    mode: str
    version: int = VERSION  # of the protocol
    resume: str | msgspec.UnsetType = msgspec.UNSET  # token with which a client resumes a server's session
    resume_s: float | msgspec.UnsetType = msgspec.UNSET  # how long a server keeps the session of a lost connection
    share: str | msgspec.UnsetType = msgspec.UNSET  # key with which others watch a server's session, if requested
    movable: bool | msgspec.UnsetType = msgspec.UNSET  # whether this server's sessions can continue on another


class SpeechStarted(_Stamped, frozen=True, tag="speech_started"):
    """An utterance begins at `start` seconds."""

    utterance: int  # counted from 0
    start: float  # seconds; the pre-roll is part of the utterance


class LanguageIdentified(_Stamped, frozen=True, tag="language"):
    """In a session that identifies languages: that of an utterance, before its text."""

    utterance: int
    language: (
        str  # one of the allowed; "und" if none is probable enough: the text has the language of before, or a guess
    )
    probability: float  # 0..1, among the allowed languages
    start: float  # seconds, of the utterance


class Partial(_Stamped, frozen=True, tag="partial"):
    """The text of the open utterance: `committed` only grows, `volatile` may change."""

    utterance: int
    committed: str  # append-only within the utterance
    volatile: str  # replaces the volatile text before it
    words: tuple[Word, ...]  # committed, then volatile
    audio_s: float  # seconds of the session's audio behind this text
    language: str | msgspec.UnsetType = msgspec.UNSET  # as the checkpoint names it, if it has several


class Final(_Stamped, frozen=True, tag="final"):
    """The text of a finished utterance, decoded with full context unless `finals` is append."""

    utterance: int
    text: str  # never empty
    words: tuple[Word, ...]
    start: float  # seconds, of the utterance
    end: float  # seconds, of the utterance
    confidence: float  # 0..1, mean of the words'; without a calibration the geometric mean over all tokens
    display_text: str | msgspec.UnsetType = msgspec.UNSET  # if requested: the text with punctuation and case
    nbest: tuple[Alternative, ...] | msgspec.UnsetType = msgspec.UNSET  # if requested; best first
    language: str | msgspec.UnsetType = msgspec.UNSET  # as the checkpoint names it, if it has several


class Translation(_Stamped, frozen=True, tag="translation"):
    """A final in another language. For each language, translations come in the order of their finals."""

    utterance: int
    language: str  # BCP 47 tag
    text: str
    of: str = "final"  # the event that it translates
    start: float = 0.0  # seconds, of the utterance
    end: float = 0.0  # seconds, of the utterance


class Command(_Stamped, frozen=True, tag="command"):
    """A command of the session's grammar."""

    utterance: int
    command: str  # its name in the grammar
    slots: Slots  # content of its slots; a list where one occurs more than once
    text: str  # its words
    score: float  # 0..1; near 1 if the model recognizes exactly these words
    words: tuple[Word, ...]
    start: float  # seconds, of the first word
    end: float  # seconds, of the last word
    early: bool  # before the end of the utterance, since nothing else in the grammar can follow
    alternatives: tuple[Guess, ...] | msgspec.UnsetType = msgspec.UNSET  # if requested; best first
    audio_s: float = 0.0  # seconds of the session's audio behind the decision


class Rejected(_Stamped, frozen=True, tag="rejected"):
    """The utterance is no command."""

    utterance: int
    reason: str  # unmatched; woken: it was the wake phrase, and the next utterance counts; asleep: no wake phrase yet
    score: float  # 0..1, of the best guess
    best: Guess | None  # the nearest command
    alternatives: tuple[Guess, ...] | msgspec.UnsetType = msgspec.UNSET  # if requested; best first
    audio_s: float = 0.0  # seconds of the session's audio behind the decision


class SpeechEnded(_Stamped, frozen=True, tag="speech_ended"):
    """An utterance ended at `end` seconds, and why."""

    utterance: int
    end: float  # seconds
    reason: str  # silence, blanks, length, flush, end


class SessionEnded(_Stamped, frozen=True, tag="session_ended"):
    """The last event of every session that started."""

    audio_s: float  # seconds of audio received
    utterances: int  # utterances begun


class Warning(_Stamped, frozen=True, tag="warning"):
    """Something that the client should know; the session goes on."""

    code: str
    message: str


class Error(_Stamped, frozen=True, tag="error"):
    """A failure. After `encoder_failed` the session goes on; after any other code it takes no more input."""

    code: str
    message: str


class SessionResumed(_Stamped, frozen=True, tag="session_resumed"):
    """The client has resumed the session over another connection."""

    session: str
    received: int  # samples of each channel, at the client's rate: the client continues there
    event: int  # number of the next event, counted from 0; acknowledgements and this event do not count


class SessionMoved(_Stamped, frozen=True, tag="session_moved"):
    """Another server continues the session. An utterance that was open begins again under its number."""

    session: str  # its name there
    model: str
    mode: str
    resume: str | msgspec.UnsetType = msgspec.UNSET  # as in `SessionStarted`, for the new server
    resume_s: float | msgspec.UnsetType = msgspec.UNSET
    share: str | msgspec.UnsetType = msgspec.UNSET
    movable: bool | msgspec.UnsetType = msgspec.UNSET


class Shared(_Stamped, frozen=True, tag="shared"):
    """Others can watch a server's session. Its viewers get this event first, without a key; its client gets one without
    a key when it is shared no more.
    """

    began: str  # time of the session's start: ISO 8601, UTC
    title: str = ""
    share: str | msgspec.UnsetType = msgspec.UNSET  # the key, for the client that shares


class Ack(_Stamped, frozen=True, tag="ack"):
    """A server has received this much audio."""

    received: int  # samples of each channel, at the client's rate
    safe: int | msgspec.UnsetType = msgspec.UNSET  # no server needs samples before this one: see `Origin`


class Moving(_Stamped, frozen=True, tag="moving"):
    """The server will stop: a client that can move continues its session on another."""

    within_s: float  # seconds; then this server takes no more audio


Event = (
    SessionStarted
    | SpeechStarted
    | LanguageIdentified
    | Partial
    | Final
    | Translation
    | Command
    | Rejected
    | SpeechEnded
    | SessionEnded
    | Warning
    | Error
    | SessionResumed
    | SessionMoved
    | Shared
    | Ack
    | Moving
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def to_json(event: Event) -> str:
    """One line of JSON, `type` first."""
    return _encoder.encode(event).decode()


def from_json(line: str | bytes) -> Event:
    """Read a line of `to_json`; unknown fields are ignored. Raises `EventError`."""
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise EventError(f"no event: {error}") from error
