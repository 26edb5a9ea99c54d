"""Blocks of audio from a file, and pacing of blocks. Pipes and microphones have their own modules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from ...streaming.config import SAMPLE_BYTES, AudioFormat
from ..pump import Block

if TYPE_CHECKING:
    from ...streaming.audio.files import AudioFile

BLOCK_SECONDS: Final = 0.1


def seconds(block: Block, audio: AudioFormat) -> float:
    """Length of a block in seconds."""
    if isinstance(block, bytes):
        return len(block) / (SAMPLE_BYTES[audio.encoding] * audio.channels * audio.sample_rate)
    return len(block) / audio.sample_rate


async def paced(blocks: AsyncIterator[Block], audio: AudioFormat, pace: float) -> AsyncIterator[Block]:
    """Yield each block when a microphone would have recorded it.

    `pace` 1.0 is real time, 2.0 twice as fast, 0 without waiting. Times count from the start, so delays do not add up:
    after a slow consumer, blocks follow without waiting until they are on time again.
    """
    loop = asyncio.get_running_loop()
    begun, recorded = loop.time(), 0.0
    async for block in blocks:
        recorded += seconds(block, audio) / pace if pace else 0.0
        # Even a sleep of 0 lets other tasks run; reading a file does not.
        await asyncio.sleep(max(0.0, begun + recorded - loop.time()))
        yield block


async def file_blocks(file: AudioFile) -> AsyncIterator[Block]:
    """The samples of an audio file, (n, channels). Raises `AudioError` at a damaged block."""
    for block in file.blocks(BLOCK_SECONDS):
        yield block
