"""Audio in a container (Ogg, or WebM as a browser's MediaRecorder sends it), decoded as its bytes come."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from ...streaming.audio.files import open_audio
from ...streaming.config import AudioFormat
from ...streaming.errors import AudioError, ConfigError

Float32 = NDArray[np.float32]

MAGIC: Final = {b"OggS": "ogg", b"\x1a\x45\xdf\xa3": "matroska"}  # how containers begin, and their names in libav
MOST_BLOCKS: Final = 4  # decoded and not taken; one of FLAC with eight channels may have 2 MiB
MOST_UNHEARD: Final = 8 << 20  # bytes without audio; libav itself looks at 5 MB to know what it has


def available() -> bool:
    """Whether containers can be decoded here."""
    try:
        import av  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        return False
    return True


def open_media(path: Path) -> tuple[AudioFormat, Iterator[Float32]]:
    """A whole file: by libsndfile (WAV, FLAC, Ogg, MP3), else by libav, if that is here (WebM, MP4, AAC and more).
    The blocks are (n, channels). Raises `AudioError`, also while they are read.
    """
    try:
        file = open_audio(path)
    except AudioError:
        if not available():
            raise
    else:
        return AudioFormat(sample_rate=file.sample_rate, channels=file.channels), file.blocks()
    blocks = _decoded(str(path))
    try:
        audio, first = next(blocks)
    except StopIteration:
        raise AudioError("the file holds no audio") from None
    return audio, chain([first], (block for _, block in blocks))


def _decoded(file: str | _Pipe, container: str | None = None) -> Iterator[tuple[AudioFormat, Float32]]:
    """Blocks of the first stream of audio, each with its format. Raises `AudioError`."""
    import av
    from av.audio.resampler import AudioResampler
    from av.error import FFmpegError

    try:
        with av.open(file, "r", format=container) as opened:
            # Another way to write samples; rate and channels stay. Packed and not planar: of planes PyAV takes all up
            # to a null pointer, and after eight there is none (av/audio/frame.py).
            packed = AudioResampler(format="flt")
            for frame in opened.decode(opened.streams.audio[0]):
                for each in packed.resample(frame):
                    form = AudioFormat(
                        encoding="pcm_f32le", sample_rate=each.sample_rate, channels=each.layout.nb_channels
                    )
                    yield form, cast(Float32, each.to_ndarray()).reshape(-1, form.channels)
    except ConfigError as error:  # a rate or a number of channels that nothing here can take
        raise AudioError(str(error)) from None
    except (FFmpegError, IndexError, ValueError) as error:  # no stream of audio, or one that changes
        raise AudioError(f"the audio is damaged or its coding is unknown: {error}") from None


class ContainerDecoder:
    """libav reads its input by itself and waits for it, so it has a thread here that is told to go on with each packet.
    It also waits until somebody takes what it has decoded: a packet may unfold to a thousand times its size.

    `go_on` yields the audio that becomes known, as arrays (n, channels) in [-1, 1] at the rate of `format`, which is
    there with the first. Raises `AudioError`. `close` ends the thread.
    """

    def __init__(self, container: str) -> None:
        self.format: AudioFormat | None = None
        self._container = container
        self._loop = asyncio.get_running_loop()
        self._bytes: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # an empty one is the end
        self._blocks: asyncio.Queue[Float32 | None] = asyncio.Queue()  # None: the thread wants more, or is done
        self._room = threading.Semaphore(MOST_BLOCKS)
        self._unheard = 0  # bytes since the last block
        self._done = self._closed = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._decode, name="container", daemon=True)
        self._thread.start()

    async def go_on(self, data: bytes) -> AsyncIterator[Float32]:
        """With so many bytes more; none: with the end."""
        self._unheard += len(data)
        if not self._done:
            self._bytes.put(data)
            while (block := await self._blocks.get()) is not None:
                self._room.release()
                self._unheard = 0
                yield block
        if self._problem is not None:
            raise AudioError(self._problem)
        if self._unheard > MOST_UNHEARD:
            raise AudioError(f"no audio in {self._unheard} bytes")

    def close(self) -> None:
        self._closed = True
        self._bytes.put(b"")
        self._room.release()

    # ── in the thread ──

    def _decode(self) -> None:
        try:
            for form, block in _decoded(_Pipe(self), self._container):
                self._room.acquire()
                if self._closed:
                    break
                self.format = self.format or form
                self._tell(block)
        except Exception as error:  # whatever it is, nobody must wait for this thread for ever
            self._problem = str(error)
        self._done = True
        self.pause()

    def pause(self) -> None:
        self._tell(None)

    def more(self) -> bytes:
        return self._bytes.get()

    def _tell(self, block: Float32 | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._blocks.put_nowait, block)
        except RuntimeError:  # the loop was closed
            self.close()


class _Pipe:
    """The file that libav reads."""

    def __init__(self, decoder: ContainerDecoder) -> None:
        self._decoder = decoder
        self._buffer = b""
        self._begun = self._ended = False

    def read(self, size: int) -> bytes:
        if not self._buffer and not self._ended:
            if self._begun:
                self._decoder.pause()
            self._begun = True
            self._buffer = self._decoder.more()
            self._ended = not self._buffer
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data
