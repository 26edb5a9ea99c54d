"""Audio in a container (Ogg, or WebM as a browser's MediaRecorder sends it), decoded as its bytes come."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from numpy.typing import NDArray

from ..streaming.config import AudioFormat
from ..streaming.errors import AudioError, ConfigError
from ..streaming.files import open_audio

if TYPE_CHECKING:
    from av import AudioFrame

Float32 = NDArray[np.float32]

MAGIC: Final = {b"OggS": "ogg", b"\x1a\x45\xdf\xa3": "matroska"}  # how containers begin, and their names in libav


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
    blocks = _media(path)
    try:
        audio, first = next(blocks)
    except StopIteration:
        raise AudioError("the file holds no audio") from None
    return audio, chain([first], (block for _, block in blocks))


def _media(path: Path) -> Iterator[tuple[AudioFormat, Float32]]:
    import av
    from av.audio.resampler import AudioResampler
    from av.error import FFmpegError

    try:
        with av.open(str(path), "r") as container:
            plain = AudioResampler(format="fltp")
            for frame in container.decode(container.streams.audio[0]):
                for each in plain.resample(frame):
                    yield _declared(each), cast(Float32, each.to_ndarray()).T
    except (FFmpegError, IndexError, ConfigError) as error:
        raise AudioError(f"not an audio file that can be read: {error}") from None


def _declared(frame: AudioFrame) -> AudioFormat:
    return AudioFormat(encoding="pcm_f32le", sample_rate=frame.sample_rate, channels=frame.layout.nb_channels)


class ContainerDecoder:
    """libav reads its input by itself and waits for it, so it has a thread here that is told to go on with each packet.

    `receive` and `end` return the audio that became known, as arrays (n, channels) in [-1, 1] at the rate of `format`,
    which is there with the first. Both raise `AudioError`. `close` ends the thread.
    """

    def __init__(self, container: str) -> None:
        self.format: AudioFormat | None = None
        self._container = container
        self._loop = asyncio.get_running_loop()
        self._bytes: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # an empty one is the end
        self._paused = asyncio.Event()  # the thread wants more, or is done
        self._blocks: list[Float32] = []
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._decode, name="container", daemon=True)
        self._thread.start()

    async def receive(self, data: bytes) -> list[Float32]:
        if not data:
            return []
        return await self._go_on(data)

    async def end(self) -> list[Float32]:
        return await self._go_on(b"")

    def close(self) -> None:
        self._bytes.put(b"")

    async def _go_on(self, data: bytes) -> list[Float32]:
        self._paused.clear()
        self._bytes.put(data)
        while self._thread.is_alive() and not self._paused.is_set():
            await self._paused.wait()
        if self._problem is not None:
            raise AudioError(f"the audio is damaged or its coding is unknown: {self._problem}")
        blocks, self._blocks = self._blocks, []
        return blocks

    # ── in the thread ──

    def _decode(self) -> None:
        import av
        from av.audio.resampler import AudioResampler
        from av.error import FFmpegError

        try:
            with av.open(_Pipe(self), "r", format=self._container) as container:
                stream = container.streams.audio[0]
                plain = AudioResampler(format="fltp")  # another way to write samples; rate and channels stay
                for frame in container.decode(stream):
                    for each in plain.resample(frame):
                        self.format = self.format or _declared(each)
                        self._blocks.append(cast(Float32, each.to_ndarray()).T)
        except (FFmpegError, IndexError, ConfigError) as error:  # no stream of audio; one of 200 kHz
            self._problem = str(error)
        self.pause()

    def pause(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._paused.set)
        except RuntimeError:  # the loop was closed
            self.close()

    def more(self) -> bytes:
        return self._bytes.get()


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
