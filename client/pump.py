"""One live session from the first block of audio to `session_ended`, over any kind of session and any source."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..streaming.errors import SessionClosed, XlsrLiveError
from ..streaming.protocol.events import Error, Event
from .errors import ConnectionProblem

Block = bytes | NDArray[np.float32]  # in the session's `AudioFormat`; arrays are (samples, channels) in [-1, 1]

IMPATIENT_SECONDS: Final = 0.5  # programs such as `timeout` send one interrupt twice, to the process and to its group


class Session(Protocol):
    """What `StreamSession` (in process) and `websocket.Stream` (on a server) have in common."""

    async def send(self, audio: Block) -> None: ...
    async def end(self) -> None: ...
    def __aiter__(self) -> AsyncIterator[Event]: ...


async def pump(
    session: Session, blocks: AsyncIterator[Block], show: Callable[[Event], None], *, interruptible: bool = True
) -> bool:
    """Send `blocks` and show the events, both at once. Return whether the user interrupted.

    The first Ctrl-C ends the audio, and the utterance that was open is still finished and shown; the second gives up.
    One of many sessions at once is not `interruptible` by itself: Ctrl-C then is the caller's.
    Raises `XlsrLiveError` for what the session reports as an `error`, and when it ends before the audio does.
    """
    told: list[Error] = []
    all_sent = False

    async def feed() -> None:
        nonlocal all_sent
        with suppress(ConnectionProblem, SessionClosed):  # the events say why
            with suppress(asyncio.CancelledError):
                async for block in blocks:
                    await session.send(block)
            all_sent = True
            await session.end()

    async def listen() -> None:
        async for event in session:
            show(event)
            if isinstance(event, Error):
                told.append(event)
        if told:
            raise XlsrLiveError(told[0].message, code=told[0].code)
        if not all_sent:
            raise ConnectionProblem("the session was ended before the audio was over", code="ended_early")

    feeder, listener = asyncio.create_task(feed()), asyncio.create_task(listen())
    with _interrupts(feeder) if interruptible else nullcontext(asyncio.Event()) as interrupted:
        try:
            await asyncio.wait({feeder, listener}, return_when=asyncio.FIRST_COMPLETED)
            if feeder.done():
                feeder.result()  # a source that failed: no end was sent, so do not wait for one
            await listener
        finally:
            feeder.cancel()
            listener.cancel()
            await asyncio.gather(feeder, listener, return_exceptions=True)
    return interrupted.is_set()


@contextmanager
def _interrupts(feeder: asyncio.Task[None]) -> Generator[asyncio.Event]:
    loop, caller, interrupted = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()

    first = float("inf")

    def interrupt() -> None:
        nonlocal first
        if loop.time() - first > IMPATIENT_SECONDS and caller:
            caller.cancel()
        first = min(first, loop.time())
        interrupted.set()
        feeder.cancel()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    except (NotImplementedError, ValueError, RuntimeError):  # Windows, or not the main thread: Ctrl-C ends at once
        yield interrupted
        return
    try:
        yield interrupted
    finally:
        loop.remove_signal_handler(signal.SIGINT)
