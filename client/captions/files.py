"""Files that are written while somebody speaks and read at the same time.

A file that cannot be written is told once and tried again with the next text; nothing that was to stand in it is lost.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from ...streaming.errors import XlsrLiveError
from ..console import complain


class LiveFile(io.StringIO):
    """Text goes into the file `path` with each `flush`. Raises `XlsrLiveError` if it cannot be written at the start."""

    def __init__(self, path: Path) -> None:
        super().__init__(newline="")
        self._path = path.resolve()  # a link stays one
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
                complain(f"captions cannot be written to {self._path} ({error.strerror}); what is missing will follow")
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        self.flush()
        super().close()

    def _save(self, content: bytes) -> None:
        """Make the file hold all that was written. Raises `OSError`."""
        raise NotImplementedError


class Appended(LiveFile):
    """A file that grows by what is new; for lines, of which a reader leaves the last if it is not whole."""

    _rest = b""  # what could not be written yet

    def _save(self, content: bytes) -> None:
        self._rest += content
        self.seek(0)
        self.truncate()
        with self._path.open("ab", buffering=0) as file:
            while self._rest:
                self._rest = self._rest[file.write(self._rest) :]


class Replaced(LiveFile):
    """A file that a reader finds whole at every moment: the new one takes the place of the old in one step (rename).

    That costs a copy of the file each time; of subtitles there are some hundred KiB after a whole day.
    """

    def _save(self, content: bytes) -> None:
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            beside.write_bytes(content)
            beside.replace(self._path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise

    def set(self, text: str) -> None:
        """Let the file hold just this."""
        self.seek(0)
        self.truncate()
        self.write(text)
        self.flush()
