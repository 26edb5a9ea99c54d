"""Caption files that other programs read while they are written.

A failed write is reported once and repeated with the next text, so no text is lost.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from ...streaming.errors import XlsrLiveError
from ..console import complain, remove_empty, writing


class LiveFile(io.StringIO):
    """Each `flush` writes the text to the file `path`. Raises `XlsrLiveError` if the first write fails."""

    def __init__(self, path: Path) -> None:
        super().__init__(newline="")
        self._path = path.resolve()  # so that replacing the file keeps a link to it
        self._problem: str | None = None  # of the last write
        try:
            if not path.parent.exists():
                raise XlsrLiveError(f"cannot write {path}: there is no folder {path.parent}")
            with writing(path):
                path.write_bytes(b"")
                self._save(b"")
        except XlsrLiveError:
            super().close()  # else the garbage collection would close, try to write, and report the failure again
            raise

    @property
    def complete(self) -> bool:
        """Whether the file has the whole text."""
        return self._problem is None

    def flush(self) -> None:
        if self.closed:
            return
        try:
            self._save(self.getvalue().encode())
        except OSError as error:
            if not self._problem:
                complain(f"cannot write captions to {self._path} ({error.strerror}); missing text will follow")
            self._problem = error.strerror or str(error)
        else:
            self._problem = None

    def close(self) -> None:
        if not self.closed:
            self.flush()
            if self._problem:
                complain(f"captions are missing in {self._path} ({self._problem})")
                remove_empty(self._path)
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
