"""Extracts the samples of a stream that may begin with a WAV header: some clients send a whole file."""

from __future__ import annotations

import struct
from typing import Final

from ..config import AudioFormat, Encoding
from ..errors import AudioError

LONGEST_HEADER: Final = 1 << 16  # bytes before the samples
_ENCODINGS: Final[dict[tuple[int, int], Encoding]] = {  # format tag and bits of a sample (RFC 2361)
    (1, 16): "pcm_s16le",
    (3, 32): "pcm_f32le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
_EXTENSIBLE: Final = 0xFFFE
_ENDLESS: Final = (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # sizes written by recorders that do not know the length


class WavStream:
    """Takes bytes in pieces of any size. `format` is what the header declares; None: no header, or not complete yet."""

    def __init__(self) -> None:
        self.format: AudioFormat | None = None
        self._head: bytes | None = b""  # None once the start of the samples is known
        self._left: int | None = None  # bytes of samples still to come; None: no limit

    def receive(self, data: bytes) -> bytes:
        """The samples in `data` and in bytes held back before. Raises `AudioError` for an unsupported format."""
        if self._head is not None:
            self._head += data
            if (start := self._start(self._head)) is None:
                return b""
            data, self._head = self._head[start:], None
        if self._left is not None:  # other chunks may follow the samples
            data = data[: self._left]
            self._left -= len(data)
        return data

    def _start(self, head: bytes) -> int | None:
        """Where the samples begin; None if that is not known yet."""
        if not (head[:4] == b"RIFF"[: len(head)] and head[8:12] == b"WAVE"[: max(0, len(head) - 8)]):
            return 0
        at = 12
        while len(head) >= at + 8:
            name, size = struct.unpack_from("<4sI", head, at)
            if name == b"data":
                if self.format is None:
                    raise AudioError("the WAV header has no format")
                self._left = None if size in _ENDLESS else size
                return at + 8
            if name == b"fmt " and len(head) >= at + 8 + size:
                self.format = _format(head[at + 8 : at + 8 + size])
            at += 8 + size + size % 2
            if at > LONGEST_HEADER:
                raise AudioError(f"the WAV header is longer than {LONGEST_HEADER} bytes")
        return None


def _format(chunk: bytes) -> AudioFormat:
    if len(chunk) < 16:
        raise AudioError("the WAV header is damaged")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    if (encoding := _ENCODINGS.get((tag, bits))) is None:
        raise AudioError(f"WAV of format {tag} with {bits} bits is not supported; use 16-bit PCM, float or G.711")
    return AudioFormat(encoding=encoding, sample_rate=rate, channels=channels)
