"""Recordings among a command's arguments: files, folders, pipes and standard input."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from ...streaming.errors import AudioError
from ..console import printable

STDIN: Final = Path("-")
SUFFIXES: Final = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"})
MEDIA_SUFFIXES: Final = frozenset({".m4a", ".mp4", ".webm", ".mkv", ".mka", ".mov", ".aac"})  # PyAV reads them


@dataclass(frozen=True)
class Recording:
    """A recording, which can be opened several times even if it is a pipe."""

    path: Path
    content: bytes | None = None  # of a pipe, which is readable only once

    @property
    def name(self) -> str:
        return "standard input" if self.path == STDIN else printable(self.path)

    @property
    def source(self) -> Path | BinaryIO:
        """For `open_audio`."""
        if self.content is None:
            return self.path
        stream = io.BytesIO(self.content)
        stream.name = self.name  # for messages
        return stream


def find_recordings(path: Path) -> Iterator[Path]:
    """The file itself, or the audio files of a folder. Raises `AudioError` for a folder without audio files."""
    if not path.is_dir():
        yield path
        return
    known = SUFFIXES | MEDIA_SUFFIXES
    found = sorted(one for one in path.rglob("*") if one.suffix.lower() in known and one.is_file())
    if not found:
        raise AudioError(f"{path}: no recordings in this folder ({', '.join(sorted(known))})")
    yield from found


def read_recording(path: Path) -> Recording:
    """Read a pipe or standard input (-) to its end; does not open files yet. Raises `AudioError`."""
    try:
        if path == STDIN:
            return Recording(path, sys.stdin.buffer.read())
        if path.exists() and not path.is_file() and not path.is_dir():
            return Recording(path, path.read_bytes())
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}") from error
    return Recording(path)
