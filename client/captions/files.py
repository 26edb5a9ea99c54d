"""Caption files that other programs read while they are written.

A failed write is reported once and repeated with the next text, so no text is lost.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from ...streaming.errors import XlsrLiveError
from ..console import complain


class LiveFile(io.StringIO):
    """Each `flush` writes the text to the file `path`. Raises `XlsrLiveError` if the first write fails."""

    def __init__(self, path: Path) -> None:
        super().__init__(newline="")
        self._path = path.resolve()  # so that replacing the file keeps a link to it
        self._failing = False
        try:
            path.write_bytes(b"")
            self._save(b"")
        except OSError as error:
            super().close()
            why = f"there is no folder {path.parent}" if not path.parent.exists() else error.strerror
            raise XlsrLiveError(f"cannot write {path}: {why}") from error

    def flush(self) -> None:
        if self.closed:
            return
        try:
            self._save(self.getvalue().encode())
        except OSError as error:
            if not self._failing:
                complain(f"cannot write captions to {self._path} ({error.strerror}); missing text will follow")
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        self.flush()
        super().close()

    def _save(self, content: bytes) -> None:
        """Make the file hold the whole text. Raises `OSError`."""
        raise NotImplementedError


class AppendedFile(LiveFile):
    """A file that grows. For lines: a reader ignores a last line without its line break."""

    _rest = b""  # not written yet

    def _save(self, content: bytes) -> None:
        self._rest += content
        self.seek(0)
        self.truncate()
        with self._path.open("ab", buffering=0) as file:
            while self._rest:
                self._rest = self._rest[file.write(self._rest) :]


class ReplacedFile(LiveFile):
    """A file that readers always find complete: a new file replaces the old one in one step (rename).

    Each write copies the whole file; subtitles of a day are a few hundred KiB.
    """

    def _save(self, content: bytes) -> None:
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            new.write_bytes(content)
            new.replace(self._path)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def set(self, text: str) -> None:
        """Replace the whole text."""
        self.seek(0)
        self.truncate()
        self.write(text)
        self.flush()
