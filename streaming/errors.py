"""The errors that this package raises on purpose.

    XlsrLiveError           base; server, client and command line add errors of their own
      AudioError            the audio is not what was declared (caller's fault)
      ConfigError           a setting is unknown or out of range (caller's fault)
        GrammarError        a grammar of commands has an error, at a line and a column (caller's fault)
      ModelError            the checkpoint does not load or does not fit (caller's fault)
      LanguageModelError    the language model or its lexicon does not load or does not fit (caller's fault)
      BacklogFull           the session cannot hold more audio; wait and send it again (caller's fault)
      SessionClosed         the session has ended (caller's fault)
      EventError            a line is not an event in JSON (its writer's fault)
      EngineError           the encoder failed or was stopped (our fault)

Each has a `code` for the wire and a message that says what to do.
"""

from __future__ import annotations


class XlsrLiveError(Exception):
    """`code` is stable and for programs; `str(error)` is for people."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code


class AudioError(XlsrLiveError):
    """The audio cannot be used: a bad file, format or sample."""

    code = "bad_audio"


class ConfigError(XlsrLiveError):
    """A setting is unknown, out of range, or impossible with this model."""

    code = "bad_config"


class GrammarError(ConfigError):
    """`line` and `column` count from 1. The message begins with them."""

    code = "bad_grammar"

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column


class ModelError(XlsrLiveError):
    """The checkpoint cannot be loaded or used."""

    code = "bad_model"


class LanguageModelError(XlsrLiveError):
    """The n-gram or its lexicon cannot be used."""

    code = "bad_lm"


class BacklogFull(XlsrLiveError):
    """The session has no room for more audio: send it again later."""

    code = "backlog_full"


class SessionClosed(XlsrLiveError):
    """The session takes no more input."""

    code = "session_closed"


class EventError(XlsrLiveError):
    """A text is no event of this protocol."""

    code = "bad_event"


class EngineError(XlsrLiveError):
    """The model failed on a request."""

    code = "encoder_failed"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type without one."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
