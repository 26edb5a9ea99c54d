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
SIGNALS: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
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
) -> int:
    """Send `blocks` and show the events concurrently. Return an exit status: 0, or 128 plus the signal that ended the
    audio.

    The first Ctrl-C (or SIGTERM, or SIGHUP) ends the audio, and the open utterance still finishes: it calls `stop`,
    which lets `blocks` end after those that wait; without `stop` no further block is sent. The second one cancels. With
    concurrent sessions, the caller handles signals and sets `interruptible` to False.

    Raises what `blocks` raises, after the last event of the audio before it; `XlsrLiveError` for an `error` event, and
    `ConnectionProblem` if the session ends before the audio.
    """
    errors: list[Error] = []
    failures: list[Exception] = []  # of the source
    all_sent = False

    async def feed() -> None:
        nonlocal all_sent
        with suppress(ConnectionProblem, SessionClosed):  # the events give the reason
            with suppress(asyncio.CancelledError):
                async for block in _until_failure(blocks, failures):
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
    with _interrupts(stop or feeder.cancel) if interruptible else nullcontext(list[int]()) as received:
        try:
            await asyncio.wait({feeder, receiver}, return_when=asyncio.FIRST_COMPLETED)
            if feeder.done():
                feeder.result()  # raises what is no answer of the session: then no last event comes
            await receiver
        finally:
            feeder.cancel()
            receiver.cancel()
            await asyncio.gather(feeder, receiver, return_exceptions=True)
    if failures:
        raise failures[0]
    return 128 + received[0] if received else 0


async def _until_failure(
    blocks: AsyncIterator[Block | EndHere], failures: list[Exception]
) -> AsyncIterator[Block | EndHere]:
    """The blocks up to a failure of their source, which joins `failures`."""
    try:
        async for block in blocks:
            yield block
    except Exception as error:
        failures.append(error)


@contextmanager
def _interrupts(stop: Callable[[], object]) -> Generator[list[int]]:
    """The first signal calls `stop` and joins the yielded list; the second one cancels the caller."""
    loop, caller, received = asyncio.get_running_loop(), asyncio.current_task(), list[int]()
    first = float("inf")
    # With nohup a closed terminal ends nothing.
    numbers = [each for each in SIGNALS if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN]

    def interrupt(number: int) -> None:
        nonlocal first
        if loop.time() - first > REPEAT_S and caller:
            caller.cancel()
        if not received:
            stop()
        first = min(first, loop.time())
        received.append(number)

    try:
        for number in numbers:
            loop.add_signal_handler(number, interrupt, number)
    except (NotImplementedError, ValueError, RuntimeError):  # Windows, or not the main thread: a signal ends at once
        yield received
        return
    try:
        yield received
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
