"""A client of the server's native protocol (docs/protocol.md).

    async with connect("ws://127.0.0.1:8765/v1/stream") as stream:
        await stream.send(pcm)                      # for each packet of audio
        await stream.end()
        async for event in stream:                  # until session_ended
            ...

Sending and receiving are independent: run them as two tasks for live audio. A background task reads and queues events,
so none is lost before the iteration starts.

If the connection breaks and the server keeps the session, the client reconnects: it sends the audio that the server has
not received, and the events continue where they stopped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from ...streaming.config import AudioFormat, SessionConfig
from ...streaming.protocol.messages import Start
from .connection import open_connection
from .stream import Stream


@asynccontextmanager
async def connect(
    url: str,
    *,
    config: SessionConfig | None = None,
    audio: AudioFormat | None = None,
    token: str | None = None,
    resume: bool = True,
    share: bool = False,
) -> AsyncGenerator[Stream]:
    """Open a session at `url` (`ws://host:port/v1/stream`, or `wss://`) and start it.

    `token` goes into the `Authorization` header. With `resume=False` the session ends when the connection breaks. With
    `share` the `session_started` event has a key with which others can watch. Raises `ConnectionProblem`.
    """
    audio = audio or AudioFormat()
    start = Start(
        encoding=audio.encoding,
        sample_rate=audio.sample_rate,
        channels=audio.channels,
        config=config or SessionConfig(),
        resumable=resume,
        share=share,
    )
    stream = await Stream.open(partial(open_connection, url, token), start)
    try:
        yield stream
    finally:
        await stream.aclose()
