"""A client of the server's native protocol (docs/protocol.md).

    async with connect("ws://127.0.0.1:8765/v1/stream") as stream:
        await stream.send(pcm)                      # for each packet of audio
        await stream.end()
        async for event in stream:                  # until session_ended
            ...

Sending and receiving are independent: run them as two tasks for live audio. A background task reads and queues events,
so none is lost before the iteration starts.

If the connection breaks and the server keeps the session, the client reconnects: it sends the audio that the server has
not received, and the events continue where they stopped. If that server is gone or will stop, the session moves to
another one at the same address or at one of several: after a `session_moved`, an utterance that was open begins again
under its number, and all else goes on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from ...streaming.config import AudioFormat, SessionConfig
from ...streaming.protocol.messages import Start
from .connection import Servers
from .stream import Stream


@asynccontextmanager
async def connect(
    url: str | Sequence[str],
    *,
    config: SessionConfig | None = None,
    audio: AudioFormat | None = None,
    token: str | None = None,
    resume: bool = True,
    share: bool = False,
    wait_s: float = 0.0,
) -> AsyncGenerator[Stream]:
    """Open a session at `url` (`ws://host:port/v1/stream`, or `wss://`) and start it. Several addresses are those of
    servers with the same model; the first that answers counts.

    `token` goes into the `Authorization` header. With `resume=False` the session ends when the connection breaks. With
    `share` the `session_started` event has a key with which others can watch. If the server is full, try again when it
    says so, for up to `wait_s` seconds. Raises `ConnectionProblem`.
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
    stream = await Stream.open(Servers([url] if isinstance(url, str) else url, token), start, wait_s)
    try:
        yield stream
    finally:
        await stream.aclose()
