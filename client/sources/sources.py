"""Audio as blocks: a file at a given pace, a pipe as it arrives. The microphone is in `microphone`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ...streaming.config import SAMPLE_BYTES, AudioFormat
from ..pump import Block

if TYPE_CHECKING:
    from ...streaming.audio.files import AudioFile

BLOCK_SECONDS: Final = 0.1


def seconds(block: Block, audio: AudioFormat) -> float:
    """Length of a block."""
    if isinstance(block, bytes):
        return len(block) / (SAMPLE_BYTES[audio.encoding] * audio.channels * audio.sample_rate)
    return len(block) / audio.sample_rate


async def paced(blocks: AsyncIterator[Block], audio: AudioFormat, pace: float) -> AsyncIterator[Block]:
    """Yield each block at the time at which a microphone would have filled it.

    `pace` 1.0 is real time, 2.0 twice as fast, 0 without waiting. Deadlines count from the start, so delays do not add
    up: after a slow consumer, blocks come at once until they are on time again.
    """
    loop = asyncio.get_running_loop()
    begun, recorded = loop.time(), 0.0
    async for block in blocks:
        recorded += seconds(block, audio) / pace if pace else 0.0
        # Even a sleep of 0 lets other tasks run; reading a file never suspends.
        await asyncio.sleep(max(0.0, begun + recorded - loop.time()))
        yield block


async def file_blocks(file: AudioFile) -> AsyncIterator[Block]:
    """The samples of an audio file, (n, channels). Raises `AudioError` at a damaged block."""
    for block in file.blocks(BLOCK_SECONDS):
        yield block


async def pipe_blocks(descriptor: int) -> AsyncIterator[Block]:
    """Raw bytes from a file descriptor as they arrive."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=16)

    def read() -> None:
        # A daemon thread, because a read that never returns must not block the end of the process; and a descriptor,
        # because the read must not hold the lock of a Python file then.
        with suppress(RuntimeError):  # the loop is closed
            while True:
                block = os.read(descriptor, 65_536)
                asyncio.run_coroutine_threadsafe(queue.put(block), loop).result()
                if not block:
                    return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while block := await queue.get():
        yield block
