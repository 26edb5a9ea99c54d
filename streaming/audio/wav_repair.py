"""Repairs WAV files whose header declares no data, as a killed recorder leaves them."""

from __future__ import annotations

import io
import os
import struct
from typing import BinaryIO, Final

_HEADER: Final = 1 << 16  # bytes; the samples begin within them
_TO_THE_END: Final = b"\xff\xff\xff\xff"  # a size that readers limit to the rest of the file


def repaired(stream: BinaryIO) -> BinaryIO | None:
    """The file with a usable header; None if its own is good. Rewinds the stream."""
    header = stream.read(_HEADER)
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    at = _empty_data(header, length)
    return None if at is None else io.BufferedReader(_Patched(stream, at, _TO_THE_END))


def _empty_data(header: bytes, length: int) -> int | None:
    """Offset of the size of an empty data chunk, if samples follow it instead of further chunks; else None."""
    if header[:4] != b"RIFF" or header[8:12] != b"WAVE":
        return None
    at, empty = 12, None
    while at + 8 <= len(header):
        name, size = struct.unpack_from("<4sI", header, at)
        if name == b"data" and size:
            return None
        if name == b"data":
            empty = at + 4
        elif empty is not None and not name.isascii():
            return empty
        at += 8 + size + size % 2
    return empty if at < length or at > length + 1 else None


class _Patched(io.RawIOBase):
    """A read-only file with other bytes at one offset."""

    def __init__(self, file: BinaryIO, at: int, patch: bytes) -> None:
        self._file, self._at, self._patch = file, at, patch

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        start = self._file.tell()
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        first, last = max(start, self._at), min(start + len(data), self._at + len(self._patch))
        if first < last:
            buffer[first - start : last - start] = self._patch[first - self._at : last - self._at]
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
