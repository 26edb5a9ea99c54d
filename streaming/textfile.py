"""Reads UTF-8 text files, with or without a byte-order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from .errors import ConfigError


def read_text(path: Path, what: str) -> str:
    """The text of a file. Raises `ConfigError` ("cannot read WHAT PATH: ...") if it cannot be read or is not UTF-8."""
    try:
        return decode_text(path.read_bytes())
    except (OSError, ConfigError) as error:
        raise ConfigError(f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}") from None


def decode_text(data: bytes) -> str:
    """Decode UTF-8: drop a byte-order mark, convert line ends to `\\n`. Raises `ConfigError` for other encodings."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        raise ConfigError("it is UTF-16 or UTF-32; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"it is not UTF-8 (byte {data[error.start]:#04x} at {error.start}); save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
