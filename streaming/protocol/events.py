"""What a session tells its listener: frozen, one class per happening, the same in Python and as JSON on the wire.

The order within a session is fixed: `session_started`, then for every utterance `speech_started`, any number of
`partial`, at most one `final`, and `speech_ended`; then `session_ended`. An utterance in which nothing was said
(noise that opened the gate) has no `final`: its `speech_ended` says so, and a listener drops its last partial.
In a session with a grammar every utterance has one `command` or one `rejected`: right before `speech_ended`, or a
`command` already among the partials. `warning` and `error` may stand anywhere.

Every event of a session says how late it is and how much the service gives up (`ladder.Level`): `lag_ms`
is the time from the arrival of the newest audio that the event is about to the event itself. These two do not count
when events are compared: equal events say the same.
"""

from __future__ import annotations

import msgspec

from ..errors import EventError
from .messages import VERSION


class Word(msgspec.Struct, frozen=True):
    word: str
    start: float  # seconds from the start of the session
    end: float  # seconds from the start of the session
    confidence: float  # 0..1; without a calibration exp of the mean log-probability of its tokens at their best frames
    committed: bool = True  # False: may still change


class Alternative(msgspec.Struct, frozen=True):
    text: str
    score: float  # nats, higher is better; to be compared within one final


Value = int | str  # what a slot of a command may hold
Slots = dict[str, Value | list[Value | list[Value]]]


class Guess(msgspec.Struct, frozen=True):
    """A command that may have been said."""

    command: str
    slots: Slots
    text: str
    score: float  # 0..1

    def __hash__(self) -> int:
        return hash((self.command, self.text, self.score))


class _Said(msgspec.Struct, frozen=True, eq=False):
    """Equal by what is said, not by `lag_ms` and `level`."""

    def _content(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name not in ("lag_ms", "level"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Said) and type(self) is type(other) and self._content() == other._content()

    def __ne__(self, other: object) -> bool:  # msgspec has one of its own, which does not ask __eq__
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), tuple(each for each in self._content() if not isinstance(each, dict))))


class SessionStarted(_Said, frozen=True, tag="session_started", kw_only=True):
    session: str
    model: str
    mode: str
    version: int = VERSION  # of the protocol
    resume: str | msgspec.UnsetType = msgspec.UNSET  # what lets a client come back to a server's session
    resume_s: float | msgspec.UnsetType = msgspec.UNSET  # how long the server waits for one who is away
    share: str | msgspec.UnsetType = msgspec.UNSET  # what lets others watch a server's session, if that was asked for
    lag_ms: float = 0.0
    level: int = 0


class SpeechStarted(_Said, frozen=True, tag="speech_started", kw_only=True):
    utterance: int  # counted from 0
    start: float  # seconds; the pre-roll is part of the utterance
    lag_ms: float = 0.0
    level: int = 0


class Partial(_Said, frozen=True, tag="partial", kw_only=True):
    utterance: int
    committed: str  # append-only within the utterance
    volatile: str  # replaces the volatile text before it
    words: tuple[Word, ...]  # committed, then volatile
    audio_s: float  # seconds of the session's audio behind this text
    lag_ms: float
    level: int = 0


class Final(_Said, frozen=True, tag="final", kw_only=True):
    utterance: int
    text: str  # never empty
    words: tuple[Word, ...]
    start: float  # seconds, of the utterance
    end: float  # seconds, of the utterance
    confidence: float  # 0..1, mean of the words'; without a calibration the geometric mean over all tokens
    nbest: tuple[Alternative, ...] | msgspec.UnsetType = msgspec.UNSET  # if asked for: the best first
    lag_ms: float = 0.0
    level: int = 0


class Command(_Said, frozen=True, tag="command", kw_only=True):
    """A command of the session's grammar was said."""

    utterance: int
    command: str  # its name in the grammar
    slots: Slots  # what its slots hold; a list where one was filled more than once
    text: str  # its words
    score: float  # 0..1; near 1 where the model heard just these words
    words: tuple[Word, ...]
    start: float  # seconds, of the first word
    end: float  # seconds, of the last word
    early: bool  # told before the utterance was over, since nothing else in the grammar could follow
    alternatives: tuple[Guess, ...] | msgspec.UnsetType = msgspec.UNSET  # if asked for: the best first
    audio_s: float  # seconds of the session's audio behind the decision
    lag_ms: float = 0.0
    level: int = 0


class Rejected(_Said, frozen=True, tag="rejected", kw_only=True):
    """What was said is no command."""

    utterance: int
    reason: str  # unmatched; woken: the wake phrase was said, and what comes next counts; asleep: it was not said
    score: float  # 0..1, of the best guess
    best: Guess | None  # what came nearest
    alternatives: tuple[Guess, ...] | msgspec.UnsetType = msgspec.UNSET  # if asked for: the best first
    audio_s: float  # seconds of the session's audio behind the decision
    lag_ms: float = 0.0
    level: int = 0


class SpeechEnded(_Said, frozen=True, tag="speech_ended", kw_only=True):
    utterance: int
    end: float  # seconds
    reason: str  # silence, blanks, length, flush, end
    lag_ms: float = 0.0
    level: int = 0


class SessionEnded(_Said, frozen=True, tag="session_ended", kw_only=True):
    audio_s: float  # seconds of audio received
    utterances: int  # utterances begun
    lag_ms: float = 0.0
    level: int = 0


class Warning(_Said, frozen=True, tag="warning", kw_only=True):
    code: str
    message: str
    lag_ms: float = 0.0
    level: int = 0


class Error(_Said, frozen=True, tag="error", kw_only=True):
    code: str
    message: str
    lag_ms: float = 0.0
    level: int = 0


class SessionResumed(_Said, frozen=True, tag="session_resumed", kw_only=True):
    """The client is back, over another connection."""

    session: str
    received: int  # samples of each channel, at the client's own rate: audio goes on there
    event: int  # number of the event that follows, counted from 0; acknowledgements and this do not count
    lag_ms: float = 0.0
    level: int = 0


class Ack(_Said, frozen=True, tag="ack", kw_only=True):
    """From a server: so much audio has been received."""

    received: int  # samples of each channel, at the client's own rate
    lag_ms: float = 0.0
    level: int = 0


Event = (
    SessionStarted
    | SpeechStarted
    | Partial
    | Final
    | Command
    | Rejected
    | SpeechEnded
    | SessionEnded
    | Warning
    | Error
    | SessionResumed
    | Ack
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def to_json(event: Event) -> str:
    """One line of JSON, `type` first."""
    return _encoder.encode(event).decode()


def from_json(line: str | bytes) -> Event:
    """Read what `to_json` wrote; unknown fields are ignored. Raises `EventError`."""
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise EventError(f"no event: {error}") from error
