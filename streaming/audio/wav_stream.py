"""Extracts the samples of a stream that may begin with a WAV header: some clients send a whole file."""

from __future__ import annotations

import struct
from typing import Final

from ..config import AudioFormat, Encoding
from ..errors import AudioError

LONGEST_HEADER: Final = 1 << 16  # bytes that describe the format; other chunks are skipped
_ENCODINGS: Final[dict[tuple[int, int], Encoding]] = {  # format tag and bits of a sample (RFC 2361)
    (1, 16): "pcm_s16le",
    (3, 32): "pcm_f32le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
_EXTENSIBLE: Final = 0xFFFE
_ENDLESS: Final = (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # sizes written by recorders that do not know the length


class WavStream:
    """Takes bytes in pieces of any size. `format` is that of the header; None if it is missing or incomplete."""

    def __init__(self) -> None:
        self.format: AudioFormat | None = None
        self._head: bytes | None = b""  # not yet parsed; None once the start of the samples is known
        self._in_riff = False  # after the RIFF header
        self._skip = 0  # remaining bytes of a chunk to skip
        self._padded = False  # a padding byte may follow
        self._left: int | None = None  # remaining bytes of samples; None: no limit

    def receive(self, data: bytes) -> bytes:
        """The samples in `data` and in bytes held back before. Raises `AudioError` for an unsupported format."""
        if self._head is not None:
            self._head += data
            if not self._parse():
                return b""
            data, self._head = self._head, None
        if self._left is not None:  # other chunks may follow the samples
            data = data[: self._left]
            self._left -= len(data)
        return data

    def _parse(self) -> bool:
        """Drop the complete parts of the header from `_head`. Whether `_head` now begins with the samples."""
        head = self._head or b""
        if not self._in_riff:
            if not (_begins(head, b"RIFF", b"RF64") and _begins(head[8:], b"WAVE")):
                return True
            if len(head) < 12:
                return False
            self._in_riff, head = True, head[12:]
        done = False
        while not done:
            cut = min(self._skip, len(head))
            self._skip, head = self._skip - cut, head[cut:]
            if self._padded and head:  # some writers omit the padding after an odd chunk
                self._padded, head = False, head.removeprefix(b"\0")
            if self._skip or len(head) < 8:
                break
            name, size = struct.unpack_from("<4sI", head)
            match name:
                case b"data":
                    if self.format is None:
                        raise AudioError("the WAV header has no format")
                    self._left = None if size in _ENDLESS else size
                    done, head = True, head[8:]
                case b"fmt ":
                    if size > LONGEST_HEADER:
                        raise AudioError(f"the WAV header is longer than {LONGEST_HEADER} bytes")
                    if len(head) < 8 + size:
                        break
                    self.format = _format(head[8 : 8 + size])
                    self._padded, head = size % 2 == 1, head[8 + size :]
                case _:
                    self._skip, self._padded, head = size, size % 2 == 1, head[8:]
        self._head = head
        return done


def _begins(data: bytes, *magic: bytes) -> bool:
    """Whether the bytes are, or may become, one of these."""
    return any(data[: len(each)] == each[: len(data)] for each in magic)


def _format(chunk: bytes) -> AudioFormat:
    if len(chunk) < 16:
        raise AudioError("the WAV header is damaged")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    if (encoding := _ENCODINGS.get((tag, bits))) is None:
        raise AudioError(f"WAV of format {tag} with {bits} bits is not supported; use 16-bit PCM, float or G.711")
    return AudioFormat(encoding=encoding, sample_rate=rate, channels=channels)
