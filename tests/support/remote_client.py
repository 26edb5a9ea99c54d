"""A client that sends a whole recording to a server."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from xlsr_live.client.remote.websocket import connect
from xlsr_live.streaming.protocol.events import (
    Event,
)


async def transcribe_remotely(url: str, audio: NDArray[np.int16], token: str | None = "open sesame") -> list[Event]:
    """Send everything before receiving: unread events must not be lost."""
    async with connect(url, token=token) as stream:
        for at in range(0, len(audio), 1_777):
            await stream.send(audio[at : at + 1_777].tobytes())
        await stream.end()
        return [event async for event in stream]
