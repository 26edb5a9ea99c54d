"""Files whose header does not give the length of their samples: killed recorders and pipes leave such files.

A WAV file declares 0 bytes, an AU file 0, a CAF file 0 or -1 (`mChunkSize` of unknown length).
"""

from __future__ import annotations

import io
import os
import struct
from typing import BinaryIO, Final, NamedTuple

_HEADER: Final = 1 << 16  # bytes in which the samples begin
_TO_THE_END: Final = b"\xff\xff\xff\xff"  # a size that readers cut to that of the file


class Patch(NamedTuple):
    """Bytes to write over a header, and where."""

    at: int
    content: bytes


def repaired(stream: BinaryIO) -> BinaryIO | None:
    """The file with a usable header, or None if its own is good. The stream is at its start again."""
    header = stream.read(_HEADER)
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    patch = find_patch(header, length)
    return None if patch is None else io.BufferedReader(_Patched(stream, patch))


def find_patch(header: bytes, length: int) -> Patch | None:
    """The bytes of a header to change, in a file of this many bytes."""
    match header[:4], header[8:12]:
        case b"RIFF", b"WAVE":
            at = _empty_data(header, length)
            return None if at is None else Patch(at, _TO_THE_END)
        case b".snd", b"\0\0\0\0":
            return Patch(8, _TO_THE_END)
        case b"caff", _:
            return _caf(header, length)
        case _:
            return None


def _empty_data(header: bytes, length: int) -> int | None:
    """Where the size of an empty data chunk stands, if what follows that chunk is no chain of chunks."""
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


def _caf(header: bytes, length: int) -> Patch | None:
    """The data chunk takes all that follows if its own size is none, or goes beyond the end (Apple's CAF 1.0)."""
    at = 8
    while at + 12 <= len(header):
        name, size = struct.unpack_from(">4sq", header, at)
        if name == b"data":
            rest = length - at - 12
            return Patch(at + 4, struct.pack(">q", rest)) if size <= 0 or size > rest else None
        if size < 0:
            return None
        at += 12 + size
    return None


class _Patched(io.RawIOBase):
    """A file, read only, with other bytes at one place."""

    def __init__(self, file: BinaryIO, patch: Patch) -> None:
        self._file, self._patch = file, patch

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
        at, content = self._patch
        first, last = max(start, at), min(start + len(data), at + len(content))
        if first < last:
            buffer[first - start : last - start] = content[first - at : last - at]
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
