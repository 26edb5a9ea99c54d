"""Coded streams that libsndfile decodes as they arrive: FLAC, MP3, Ogg, AIFF, AU and every WAV."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from ...streaming.audio.libav import Readable
from ...streaming.audio.libsndfile import SequentialFile
from ...streaming.config import AudioFormat
from ...streaming.errors import AudioError, ConfigError

Float32 = NDArray[np.float32]

PUSHED: Final = (b"fLaC", b"ID3", b"\xff")  # first bytes of FLAC and MP3
PIPED: Final = (b"OggS", b"RIFF", b"FORM", b".snd")  # libsndfile reads these from a pipe, but not FLAC and MP3
_END: Final = 1 << 50  # pretended size of a stream, in bytes
_KEPT: Final = 1 << 16  # bytes of a stream that can be read again
_HEADER: Final = 1 << 24  # bytes in which its samples begin: pictures may stand before them


def decode(source: Readable, head: bytes, seconds: float) -> Iterator[tuple[AudioFormat, Float32]]:
    """Blocks (n, channels) of a stream that begins with `head`, as they arrive. Raises `AudioError`."""
    stream = _piped(source) if head.startswith(PIPED) else _Endless(source)
    try:
        with SequentialFile(cast(Any, stream)) as file:
            if isinstance(stream, _Endless):
                stream.opened = True
            form = AudioFormat(encoding="pcm_f32le", sample_rate=file.samplerate, channels=file.channels)
            size = round(seconds * file.samplerate)
            while len(block := cast(Float32, file.read(size, dtype="float32", always_2d=True))):
                yield form, block
    except ConfigError as error:  # an unsupported rate or number of channels
        raise AudioError(str(error)) from None
    except soundfile.LibsndfileError as error:
        raise AudioError(f"not audio that can be read: {error.error_string}") from error


def _piped(source: Readable) -> int:
    """A descriptor of the same bytes, which libsndfile closes."""
    reader, writer = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(writer, "wb", buffering=0) as sink:
            while data := source.read(_KEPT):
                sink.write(data)

    threading.Thread(target=write, name="decoder", daemon=True).start()
    return reader


class _Endless:
    """A stream with the methods of a file. libsndfile asks for the size of a file, and seeks back within its header."""

    def __init__(self, source: Readable) -> None:
        self.opened = False
        self._source, self._start, self._held, self._at = source, 0, bytearray(), 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: _END}[whence]
        return self._at

    def read(self, count: int) -> bytes:
        if self._at >= _END - _KEPT:  # libsndfile looks for a tag at the end
            data = bytes(max(0, min(count, _END - self._at)))
        else:
            self._fill(count)
            first = self._at - self._start
            data = bytes(self._held[first : first + count]) if first >= 0 else b""
        self._at += len(data)
        if self.opened and (old := len(self._held) - 2 * _KEPT) > 0:
            del self._held[:old]
            self._start += old
        return data

    def _fill(self, count: int) -> None:
        """Wait for `count` bytes of the header; after it for one byte only, so that no audio waits for later audio."""
        wanted = self._at + (1 if self.opened else count)
        while self._start + len(self._held) < wanted and (self.opened or len(self._held) < _HEADER):
            if not (data := self._source.read(_KEPT)):
                break
            self._held += data
