"""The log: one line per event, as text or JSON, with the session's id. No audio, no transcripts, no secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from typing import Any, Final

from .settings import ServerSettings

session: ContextVar[str] = ContextVar("session", default="")  # set when a session begins; its tasks inherit it

_SECRETS: Final = re.compile(
    r"(?i)((?:bearer|authorization: token|token,)\s+|(?:ticket|resume)=|/v1/shared/"
    r"|xlsr-live\.ticket\.|openai-insecure-api-key\.)[\w.~+/=-]+"
)


def configure_logging(settings: ServerSettings) -> None:
    """Send the log of the process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


def fields(**values: object) -> dict[str, object]:
    """Structured fields of a line, as its `extra`."""
    return {"fields": values}


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00,000 INFO xlsr_live.server [9f86d081] ended audio_s=5.99`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(about)s: %(message)s%(rest)s")

    def format(self, record: logging.LogRecord) -> str:
        about = session.get()
        record.about = f" [{about}]" if about else ""
        record.rest = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return redacted(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, session (if any), message, the line's own fields, and a traceback
    (if any)."""

    def format(self, record: logging.LogRecord) -> str:
        about = session.get()
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            **({"session": about} if about else {}),
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redacted(json.dumps(line, ensure_ascii=False, default=str))


def redacted(line: str) -> str:
    """The line without tokens, tickets and keys of shared sessions."""
    return _SECRETS.sub(r"\1***", line)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return getattr(record, "fields", {})
