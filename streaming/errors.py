"""What is raised on purpose.

    XlsrLiveError     the server, the client and the command line have kinds of their own, also with code and sentence
      AudioError      the audio is not what was declared (yours)
      ConfigError     a setting is unknown or out of range (yours)
        GrammarError  a grammar of commands, at a line and a column (yours)
      ModelError      the checkpoint cannot be loaded or does not fit (yours)
      LanguageModelError  the language model or its lexicon is broken or does not fit (yours)
      BacklogFull     more audio than the session may hold; wait and send it again (yours)
      SessionClosed   the session has ended (yours)
      EventError      a line that was read is no event in JSON (of whoever wrote it)
      EngineError     the encoder failed or was stopped (ours)

Each carries a `code` that goes over the wire and a sentence that says what to do.
"""

from __future__ import annotations


class XlsrLiveError(Exception):
    """Base of the tree. `code` is stable and machine-readable, `str(error)` is for people."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code


class AudioError(XlsrLiveError):
    code = "bad_audio"


class ConfigError(XlsrLiveError):
    code = "bad_config"


class GrammarError(ConfigError):
    """`line` and `column` are counted from 1; the message begins with them."""

    code = "bad_grammar"

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column


class ModelError(XlsrLiveError):
    code = "bad_model"


class LanguageModelError(XlsrLiveError):
    code = "bad_lm"


class BacklogFull(XlsrLiveError):
    code = "backlog_full"


class SessionClosed(XlsrLiveError):
    code = "session_closed"


class EventError(XlsrLiveError):
    code = "bad_event"


class EngineError(XlsrLiveError):
    code = "encoder_failed"
