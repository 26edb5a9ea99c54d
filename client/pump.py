"""Runs one live session, local or remote, from the first block of audio to `session_ended`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from ..streaming.errors import SessionClosed, XlsrLiveError
from ..streaming.protocol.events import Error, Event
from .errors import ConnectionProblem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# In the session's `AudioFormat`; arrays are (samples, channels) in [-1, 1].
Block: TypeAlias = "bytes | NDArray[np.float32]"


class EndHere:
    """Among blocks: the open utterance ends here."""


END_HERE: Final = EndHere()
REPEAT_S: Final = 0.5  # interrupts within this time are one Ctrl-C: `timeout` signals both process and group


class LiveSession(Protocol):
    """The common interface of `StreamSession` (in this process) and `remote.stream.Stream` (on a server)."""

    async def send(self, audio: Block) -> None: ...
    async def flush(self) -> None: ...
    async def end(self) -> None: ...
    def __aiter__(self) -> AsyncIterator[Event]: ...


async def pump(
    session: LiveSession,
    blocks: AsyncIterator[Block | EndHere],
    show: Callable[[Event], None],
    *,
    interruptible: bool = True,
    stop: Callable[[], None] | None = None,
) -> bool:
    """Send `blocks` and show the events concurrently. Return whether the user interrupted.

    The first Ctrl-C ends the audio, and the open utterance still finishes: it calls `stop`, which lets `blocks` end
    after those that wait; without `stop` no further block is sent. The second one cancels. With concurrent sessions,
    the caller handles Ctrl-C and sets `interruptible` to False.

    Raises `XlsrLiveError` for an `error` event, and `ConnectionProblem` if the session ends before the audio.
    """
    errors: list[Error] = []
    all_sent = False

    async def feed() -> None:
        nonlocal all_sent
        with suppress(ConnectionProblem, SessionClosed):  # the events give the reason
            with suppress(asyncio.CancelledError):
                async for block in blocks:
                    await (session.flush() if isinstance(block, EndHere) else session.send(block))
            all_sent = True
            await session.end()

    async def receive() -> None:
        async for event in session:
            show(event)
            if isinstance(event, Error):
                errors.append(event)
        if errors:
            raise XlsrLiveError(errors[0].message, code=errors[0].code)
        if not all_sent:
            raise ConnectionProblem("the session ended before the audio", code="ended_early")

    feeder, receiver = asyncio.create_task(feed()), asyncio.create_task(receive())
    with _interrupts(stop or feeder.cancel) if interruptible else nullcontext(asyncio.Event()) as interrupted:
        try:
            await asyncio.wait({feeder, receiver}, return_when=asyncio.FIRST_COMPLETED)
            if feeder.done():
                feeder.result()  # raises the source's error: then `end` was not sent and no last event comes
            await receiver
        finally:
            feeder.cancel()
            receiver.cancel()
            await asyncio.gather(feeder, receiver, return_exceptions=True)
    return interrupted.is_set()


@contextmanager
def _interrupts(stop: Callable[[], object]) -> Generator[asyncio.Event]:
    """The first Ctrl-C calls `stop` and sets the yielded event; the second one cancels the caller."""
    loop, caller, interrupted = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()
    first = float("inf")

    def interrupt() -> None:
        nonlocal first
        if loop.time() - first > REPEAT_S and caller:
            caller.cancel()
        if not interrupted.is_set():
            stop()
        first = min(first, loop.time())
        interrupted.set()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    except (NotImplementedError, ValueError, RuntimeError):  # Windows, or not the main thread: Ctrl-C ends at once
        yield interrupted
        return
    try:
        yield interrupted
    finally:
        loop.remove_signal_handler(signal.SIGINT)
