"""Real-time speech recognition on XLS-R: the recognizer.

Start with `Recognizer`; `Session` is one stream without I/O. Names are imported at their first use, so a client that
needs only events and settings loads neither torch nor a detector.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .audio.files import AudioFile, open_audio
    from .audio.vad import make_vad
    from .config import AudioFormat, ModelOptions, Origin, SessionConfig
    from .ctc.vocabulary import Vocabulary
    from .errors import (
        AudioError,
        BacklogFull,
        ConfigError,
        EngineError,
        EventError,
        GrammarError,
        LanguageModelError,
        ModelError,
        SessionClosed,
        XlsrLiveError,
    )
    from .live import StreamSession
    from .overload import Level
    from .protocol.events import (
        Ack,
        Alternative,
        Command,
        Error,
        Event,
        Final,
        Guess,
        LanguageIdentified,
        Moving,
        Partial,
        Rejected,
        SessionEnded,
        SessionMoved,
        SessionResumed,
        SessionStarted,
        Shared,
        SpeechEnded,
        SpeechStarted,
        Translation,
        Warning,
        Word,
        from_json,
        to_json,
    )
    from .recognizer import Recognizer
    from .requests import Request
    from .session.session import Session

_HOME = {
    "config": ("AudioFormat", "ModelOptions", "Origin", "SessionConfig"),
    "errors": (
        "AudioError",
        "BacklogFull",
        "ConfigError",
        "EngineError",
        "EventError",
        "GrammarError",
        "LanguageModelError",
        "ModelError",
        "SessionClosed",
        "XlsrLiveError",
    ),
    "protocol.events": (
        "Ack",
        "Alternative",
        "Command",
        "Error",
        "Event",
        "Final",
        "Guess",
        "LanguageIdentified",
        "Moving",
        "Partial",
        "Rejected",
        "SessionEnded",
        "SessionMoved",
        "SessionResumed",
        "SessionStarted",
        "Shared",
        "SpeechEnded",
        "SpeechStarted",
        "Translation",
        "Warning",
        "Word",
        "from_json",
        "to_json",
    ),
    "audio.files": ("AudioFile", "open_audio"),
    "overload": ("Level",),
    "live": ("StreamSession",),
    "recognizer": ("Recognizer",),
    "session.session": ("Session",),
    "requests": ("Request",),
    "audio.vad": ("make_vad",),
    "ctc.vocabulary": ("Vocabulary",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Ack",
    "Alternative",
    "AudioError",
    "AudioFile",
    "AudioFormat",
    "BacklogFull",
    "Command",
    "ConfigError",
    "EngineError",
    "Error",
    "Event",
    "EventError",
    "Final",
    "GrammarError",
    "Guess",
    "LanguageIdentified",
    "LanguageModelError",
    "Level",
    "ModelError",
    "ModelOptions",
    "Moving",
    "Origin",
    "Partial",
    "Recognizer",
    "Rejected",
    "Request",
    "Session",
    "SessionClosed",
    "SessionConfig",
    "SessionEnded",
    "SessionMoved",
    "SessionResumed",
    "SessionStarted",
    "Shared",
    "SpeechEnded",
    "SpeechStarted",
    "StreamSession",
    "Translation",
    "Vocabulary",
    "Warning",
    "Word",
    "XlsrLiveError",
    "__version__",
    "from_json",
    "make_vad",
    "open_audio",
    "to_json",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("xlsr-live")
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
