"""One stream for asyncio: the sans-I/O session, driven by audio that is sent and answers that come back.

    async with recognizer.session() as stream:
        await stream.send(pcm)
        ...
        await stream.end()
        async for event in stream:
            print(event)

Sending and listening may also be two tasks. `send` waits while too much audio is unheard, so a fast sender is slowed
down instead of losing anything; a slow listener loses partials that newer ones have replaced, never a final.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from .audio.samples import as_packet
from .engine.engine import Engine
from .errors import SessionClosed, XlsrLiveError
from .protocol.events import Event, Partial
from .requests import Request
from .session.session import Session
from .session.utterance import Found

_PIECE_BYTES = 32_768  # so that one large packet cannot ask for more room than a session has
_PIECE_SAMPLES = 8_192
_EVENT_LIMIT = 256  # unread events before partials are coalesced

Clock = Callable[[], float]
T = TypeVar("T")


class StreamSession:
    """Made by `Recognizer.session()`; belongs to the event loop that runs when it is made."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        *,
        prepare: Callable[[str], Awaitable[None]] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.coalesced = 0  # partials that a slow listener did not see
        self._session = session
        self._engine = engine
        self._prepare = prepare  # compiles a grammar beside the loop
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._changed = asyncio.Event()  # something was answered: there may be room, or news
        self._unbroken = 0  # bytes or samples heard since the loop had its turn
        self._unanswered = 0  # requests
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self._pump()

    @property
    def name(self) -> str:
        return self._session.name

    @property
    def received_s(self) -> float:
        """Seconds of audio received."""
        return self._session.received_s

    @property
    def dropped(self) -> int:
        """Samples that were accepted and lost before they were heard: 0, or there is a fault."""
        return self._session.dropped

    @property
    def unfinished(self) -> int:
        """Samples, at 16 kHz, of utterances that have not ended: what `aclose` loses."""
        return self._session.unfinished

    async def send(self, audio: bytes | NDArray[np.floating]) -> None:
        """Send a packet: bytes in the declared format, or float samples (n,) or (n, channels) in [-1, 1].

        Lists and tensors are converted. Raises `AudioError` for samples that cannot be what was declared (the packet is
        refused), `SessionClosed` after `end`.
        """
        audio = as_packet(audio)
        size = _PIECE_SAMPLES if isinstance(audio, np.ndarray) else _PIECE_BYTES
        async with self._sending:
            self._session.check_audio(audio)
            for at in range(0, len(audio), size):
                piece = audio[at : at + size]
                await self._room_for(piece)
                self._session.receive_level(self._engine.level)
                self._session.receive_audio(piece, self._clock())
                self._pump()
                self._unbroken += len(piece)
                if self._unbroken >= size:  # a long packet, or many, must not keep the other sessions waiting
                    self._unbroken = 0
                    await asyncio.sleep(0)

    async def set_hotwords(self, hotwords: Sequence[str]) -> None:
        """Listen for these ("PHRASE" or "PHRASE:BOOST") from here on, instead of those before.

        Raises `ConfigError`; then those before stay.
        """
        async with self._sending:
            self._check_open()
            self._session.receive_hotwords(hotwords)

    async def set_grammar(self, grammar: str) -> None:
        """Listen for the commands of this grammar from here on, instead of those before; for none if it is empty.

        Raises `GrammarError`; then the grammar before stays.
        """
        async with self._sending:
            self._check_open()
            if self._prepare is not None:
                await self._prepare(grammar)
                self._check_open()
            self._session.receive_grammar(grammar)

    async def flush(self) -> None:
        """Mark the end of an utterance here: it is finished without waiting for silence."""
        async with self._sending:
            self._check_open()
            self._session.receive_flush(self._clock())
            self._pump()

    async def settle(self) -> None:
        """Wait until all that was sent is answered, and whoever iterates has seen the events."""
        await asyncio.sleep(0)
        while self._unanswered and not self._closed:
            self._changed.clear()
            await self._changed.wait()

    async def end(self) -> None:
        """No more audio: finishes the open utterance. Events go on to `SessionEnded`. May be called again."""
        async with self._sending:
            if not self._closed:
                self._session.receive_eof(self._clock())
                self._pump()

    async def aclose(self) -> None:
        """Drop the session at once: what is not yet answered is lost, waiting senders and listeners are told."""
        self._closed = True
        self._session.abandon()
        self._release()
        self._changed.set()
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events in order, to `SessionEnded`, or until the session is closed."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._closed or self._session.ended:
                return
            self._news.clear()
            await self._news.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaving the block is the end of the audio: what was sent is finished and its events can still be read. After
        an exception the session is dropped.
        """
        await (self.end() if kind is None else self.aclose())

    # ── how it works ──

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed("the session was closed")

    async def _room_for(self, piece: bytes | NDArray[np.floating]) -> None:
        self._check_open()
        while not self._session.can_take(piece):
            self._changed.clear()
            await self._changed.wait()
            self._check_open()

    def _pump(self) -> None:
        """Carry requests to the engine and events to the listener."""
        for request in self._session.requests():
            future = self._engine.submit(
                request.samples,
                deadline=request.deadline,
                wanted=lambda id=request.id: self._wants(id),
                reuse=request.reuse,
            )
            self._unanswered += 1
            future.add_done_callback(partial(self._hand_over, self._take, request))
        self._release()
        if events := self._session.events():
            for event in events:
                self._add(event)
            self._news.set()
        self._changed.set()

    def _release(self) -> None:
        for memory in self._session.released():
            self._engine.release(memory)

    def _wants(self, request: int) -> bool:
        return not self._closed and self._session.wants(request)

    def _add(self, event: Event) -> None:
        if isinstance(event, Partial) and len(self._events) >= _EVENT_LIMIT:
            last = self._events[-1]
            if isinstance(last, Partial) and last.utterance == event.utterance:
                self._events.pop()
                self.coalesced += 1
        self._events.append(event)

    def _hand_over(self, take: Callable[[Request, Future[T]], None], request: Request, done: Future[T]) -> None:
        """In a thread of the engine: hand over to the loop, unless that is gone."""
        try:
            self._loop.call_soon_threadsafe(take, request, done)
        except RuntimeError:  # the loop was closed with the session still open
            self._closed = True

    def _take(self, request: Request, done: Future[NDArray[np.float32]]) -> None:
        if self._closed:
            return
        self._session.receive_level(self._engine.level)
        try:
            rows = done.result()
            if (search := self._session.search(request.id)) is not None:
                self._search(request, partial(search, rows))
                return
            self._session.receive_logprobs(request.id, rows, self._clock())
        except CancelledError:
            pass
        except XlsrLiveError as error:
            self._session.receive_failure(request.id, str(error), self._clock())
        self._unanswered -= 1
        self._pump()

    def _search(self, request: Request, search: Callable[[], Found]) -> None:
        """Decode beside the loop what would hold it up."""
        wanted = partial(self._wants, request.id)
        searching = self._engine.search(search, deadline=request.deadline, wanted=wanted)
        searching.add_done_callback(partial(self._hand_over, self._decoded, request))

    def _decoded(self, request: Request, done: Future[Found | None]) -> None:
        if self._closed:
            return
        self._session.receive_level(self._engine.level)
        if (error := done.exception()) is not None:
            self._session.receive_failure(request.id, f"the search failed: {error}", self._clock())
        elif (found := done.result()) is not None:
            self._session.receive_found(request.id, found, self._clock())
        self._unanswered -= 1
        self._pump()
