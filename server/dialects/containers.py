"""Decodes audio in a container (Ogg, or WebM as a browser's MediaRecorder sends it) while its bytes arrive."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...streaming.audio.files import open_audio
from ...streaming.audio.libav import available, decode
from ...streaming.config import AudioFormat
from ...streaming.errors import AudioError

Float32 = NDArray[np.float32]

MAGIC: Final = {b"OggS": "ogg", b"\x1a\x45\xdf\xa3": "matroska"}  # first bytes of a container, and its name in libav
MOST_BLOCKS: Final = 4  # decoded and waiting; a block of FLAC with eight channels may have 2 MiB
MOST_SILENT_BYTES: Final = 8 << 20  # received without any audio; libav itself probes 5 MB


def open_media(path: Path) -> tuple[AudioFormat, Iterator[Float32]]:
    """Open a whole file with libsndfile (WAV, FLAC, Ogg, MP3), else with libav if installed (WebM, MP4, AAC and more).
    Blocks have the shape (n, channels). Raises `AudioError`, also while blocks are read.
    """
    try:
        file = open_audio(path, media=False)
    except AudioError:
        if not available():
            raise
    else:
        return AudioFormat(sample_rate=file.sample_rate, channels=file.channels), file.blocks()
    blocks = decode(str(path))
    try:
        audio, first = next(blocks)
    except StopIteration:
        raise AudioError("the file has no audio") from None
    return audio, chain([first], (block for _, block in blocks))


class ContainerDecoder:
    """libav pulls its input and blocks for it, so it runs in a thread, which each packet resumes. The thread also waits
    while `MOST_BLOCKS` blocks are not taken: a packet may decode to a thousand times its size.

    `decode` yields arrays (n, channels) in [-1, 1] at the rate of `format`, which is set with the first array. It
    raises `AudioError`. `close` ends the thread.
    """

    def __init__(self, container: str) -> None:
        self.format: AudioFormat | None = None
        self._container = container
        self._loop = asyncio.get_running_loop()
        self._bytes: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # b"": the end
        self._blocks: asyncio.Queue[Float32 | None] = asyncio.Queue()  # None: the thread needs more, or is done
        self._room = threading.Semaphore(MOST_BLOCKS)
        self._silent_bytes = 0  # bytes since the last block
        self._done = self._closed = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="container", daemon=True)
        self._thread.start()

    async def decode(self, data: bytes) -> AsyncIterator[Float32]:
        """The audio that these bytes complete; b"" is the end of the input."""
        self._silent_bytes += len(data)
        if not self._done:
            self._bytes.put(data)
            while (block := await self._blocks.get()) is not None:
                self._room.release()
                self._silent_bytes = 0
                yield block
        if self._problem is not None:
            raise AudioError(self._problem)
        if self._silent_bytes > MOST_SILENT_BYTES:
            raise AudioError(f"no audio in {self._silent_bytes} bytes")

    def close(self) -> None:
        self._closed = True
        self._bytes.put(b"")
        self._room.release()

    # ── in the thread ──

    def _run(self) -> None:
        try:
            for form, block in decode(_Pipe(self), self._container):
                self._room.acquire()
                if self._closed:
                    break
                self.format = self.format or form
                self._put(block)
        except Exception as error:  # of any kind: otherwise `decode` would wait forever
            self._problem = str(error)
        self._done = True
        self.pause()

    def pause(self) -> None:
        self._put(None)

    def more(self) -> bytes:
        return self._bytes.get()

    def _put(self, block: Float32 | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._blocks.put_nowait, block)
        except RuntimeError:  # the loop is closed
            self.close()


class _Pipe:
    """The file object that libav reads."""

    def __init__(self, decoder: ContainerDecoder) -> None:
        self._decoder = decoder
        self._buffer = b""
        self._started = self._ended = False

    def read(self, size: int) -> bytes:
        if not self._buffer and not self._ended:
            if self._started:
                self._decoder.pause()
            self._started = True
            self._buffer = self._decoder.more()
            self._ended = not self._buffer
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data
