"""Audio on a pipe: raw samples, or a stream with a header (WAV, FLAC, Ogg, MP3 and more)."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import chain
from typing import Final, TypeVar

from ...streaming.audio import libav
from ...streaming.audio.files import open_audio
from ...streaming.audio.header_repair import find_patch
from ...streaming.audio.wav_stream import WavStream
from ...streaming.config import AudioFormat
from ...streaming.errors import AudioError
from ..pump import Block
from . import coded
from .sources import BLOCK_SECONDS

T = TypeVar("T")

READ_BYTES: Final = 1 << 16
HEAD_BYTES: Final = 2 << 10  # enough for two frames of MP3
QUEUE: Final = 16  # unread items
ENDLESS: Final = 1 << 62  # bytes: the length of a stream is unknown
NAME: Final = "standard input"

MAGIC: Final = (b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b".snd", b"RF64")
MP3_KBPS: Final = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2
    0: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2.5
}
MP3_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


async def open_pipe(descriptor: int, raw: AudioFormat) -> tuple[AudioFormat, AsyncIterator[Block]]:
    """The format and the blocks of a pipe, as they arrive. The format is that of the stream's header, else `raw`.

    Returns when the first audio has arrived. Raises `AudioError`, also during the iteration.
    """
    items = in_thread(read_pipe(descriptor, raw))
    first = await anext(items, None)

    async def blocks() -> AsyncIterator[Block]:
        if first:
            yield first[1]
        async for _, block in items:
            yield block

    return first[0] if first else raw, blocks()


def read_pipe(descriptor: int, raw: AudioFormat) -> Iterator[tuple[AudioFormat, Block]]:
    """Blocks with their format. Raises `AudioError`."""
    head = b""
    while len(head) < HEAD_BYTES and (data := os.read(descriptor, READ_BYTES)):
        head += data
        if len(head) >= 16 and not is_mp3(head, frames=1):
            break  # only MP3 needs more than the first bytes
    if not head:
        return
    rest = iter(lambda: os.read(descriptor, READ_BYTES), b"")
    try:
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            yield from _read_wav(head, rest)
        elif head.startswith(MAGIC) or libav.is_media(head) or is_mp3(head):
            yield from _read_file(head, rest)
        else:
            yield raw, head
            for data in rest:
                yield raw, data
    except AudioError as error:
        raise AudioError(f"{NAME}: {error}") from error


def _read_wav(head: bytes, rest: Iterator[bytes]) -> Iterator[tuple[AudioFormat, Block]]:
    wav, seen = WavStream(), b""
    for data in chain([head], rest):
        if wav.format is None:
            seen += data
        try:
            samples = wav.receive(data)
        except AudioError:  # such as 24-bit audio, which libsndfile can read
            yield from _read_file(seen, rest)
            return
        if wav.format is not None and samples:
            yield wav.format, samples


def _read_file(head: bytes, rest: Iterator[bytes]) -> Iterator[tuple[AudioFormat, Block]]:
    """A coded stream as it arrives, by libav or by libsndfile; CAF when it has ended, and RF64 without PyAV."""
    if not head.startswith(b"caff") and (patch := find_patch(head, ENDLESS)) is not None:
        head = head[: patch.at] + patch.content + head[patch.at + len(patch.content) :]
    if libav.available() and not head.startswith(b"caff"):  # libav finds no samples in a CAF stream
        decoded = libav.decode(Pushed(head, rest))
    elif head.startswith((*coded.PUSHED, *coded.PIPED)):
        decoded = coded.decode(Pushed(head, rest), head, BLOCK_SECONDS)
    else:
        file = open_audio(io.BytesIO(head + b"".join(rest)))
        form = AudioFormat(sample_rate=file.sample_rate, channels=file.channels)
        decoded = ((form, block) for block in file.blocks(BLOCK_SECONDS))
    for form, block in decoded:
        yield AudioFormat(sample_rate=form.sample_rate, channels=form.channels), block


class Pushed:
    """Chunks of bytes as a file with only `read`."""

    def __init__(self, head: bytes, rest: Iterator[bytes]) -> None:
        self._data, self._rest = head, rest

    def read(self, size: int, /) -> bytes:
        if not self._data:
            self._data = next(self._rest, b"")
        data, self._data = self._data[:size], self._data[size:]
        return data


def is_mp3(head: bytes, frames: int = 2) -> bool:
    """Whether these bytes begin with frames of MPEG audio layer III. Raw samples can look like one header by chance."""
    at = 0
    for _ in range(frames):
        header = head[at : at + 4]
        if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
            return False
        version, rate, bitrate = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
        if version == 1 or rate == 3 or bitrate in (0, 15):
            return False
        samples = 144 if version == 3 else 72
        at += samples * 1000 * MP3_KBPS[version][bitrate - 1] // MP3_RATES[version][rate] + (header[2] >> 1 & 1)
    return True


async def in_thread(items: Iterator[T]) -> AsyncIterator[T]:
    """Iterate in a daemon thread: waiting for an item must not prevent the process from ending."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[T] | BaseException | None] = asyncio.Queue(QUEUE)

    def put(item: tuple[T] | BaseException | None) -> None:
        asyncio.run_coroutine_threadsafe(queue.put(item), loop).result()

    def iterate() -> None:
        with suppress(RuntimeError):  # the loop is closed
            try:
                for item in items:
                    put((item,))
            except Exception as error:
                put(error)
            else:
                put(None)

    threading.Thread(target=iterate, name="source", daemon=True).start()
    while (item := await queue.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item[0]
