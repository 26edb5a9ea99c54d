"""One stream for asyncio.

    async with recognizer.session() as stream:
        await stream.send(pcm)
        ...
        await stream.end()
        async for event in stream:
            print(event)

Sending and reading may also be two tasks. `send` waits while too much audio is unprocessed, so a fast sender slows down
and loses nothing. A slow reader loses partials that newer ones replace, never a final.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .audio.samples import as_packet
from .ctc.languages import LanguageSet
from .ctc.vocabulary import Vocabulary
from .driver import Call, SessionDriver
from .engine.engine import Engine
from .errors import ConfigError, SessionClosed
from .protocol.events import Event, Partial
from .session.session import Session

_PIECE_BYTES = 32_768  # a large packet is split, since it could need more room than a session has
_PIECE_SAMPLES = 8_192
_EVENT_LIMIT = 256  # unread events before partials are coalesced

Clock = Callable[[], float]


class StreamSession:
    """`Recognizer.session()` makes it; it belongs to the event loop that runs then."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        *,
        compile: Callable[[str, Vocabulary], Awaitable[None]] | None = None,
        languages: Callable[[str | None, Sequence[str]], Awaitable[LanguageSet | None]] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.coalesced = 0  # partials that a slow reader did not get
        self._session = session
        self._driver = SessionDriver(session, engine, hand_over=self._hand_over, clock=clock, adaptive=True)
        self._compile = compile  # a grammar, in another thread
        self._languages = languages  # finds and loads them
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._changed = asyncio.Event()  # an answer came: there may be room, or events
        self._unbroken = 0  # bytes or samples since the loop had its turn
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
    def quiet_s(self) -> float:
        """Up to this second no speech follows the last event; 0 while speech is open or events are unread."""
        return 0.0 if self._events else self._session.quiet_s

    @property
    def dropped(self) -> int:
        """Samples that were accepted and lost: 0, or there is a fault."""
        return self._session.dropped

    @property
    def unfinished(self) -> int:
        """Samples, at 16 kHz, of utterances that have not ended: `aclose` loses them."""
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
                self._driver.receive_audio(piece)
                self._pump()
                self._unbroken += len(piece)
                if self._unbroken >= size:  # a long packet must not keep other sessions waiting
                    self._unbroken = 0
                    await asyncio.sleep(0)

    async def set_hotwords(self, hotwords: Sequence[str]) -> None:
        """Replace the hotwords ("PHRASE" or "PHRASE:BOOST") from here on.

        Raises `ConfigError`; then the earlier ones stay.
        """
        async with self._sending:
            self._check_open()
            self._session.receive_hotwords(hotwords)

    async def set_grammar(self, grammar: str) -> None:
        """Replace the grammar of commands from here on; an empty one has none.

        Raises `GrammarError`; then the earlier one stays.
        """
        async with self._sending:
            self._check_open()
            vocabulary = self._session.vocabulary
            if self._compile is not None and vocabulary is not None:
                await self._compile(grammar, vocabulary)
                self._check_open()
            self._session.receive_grammar(grammar)

    async def set_language(self, language: str | None, allowed_languages: Sequence[str] = ()) -> None:
        """Choose the language of utterances whose speech begins from here on, as `SessionConfig` does; an open one
        keeps its own.

        Raises `ConfigError`, and `ModelError` if it cannot be loaded; then the earlier one stays.
        """
        async with self._sending:
            self._check_open()
            if self._languages is None:
                raise ConfigError("this session has one language")
            languages = await self._languages(language, allowed_languages)
            self._check_open()
            if languages is not None:
                self._session.receive_languages(languages)

    async def flush(self) -> None:
        """Mark the end of an utterance here: finish it without waiting for silence."""
        async with self._sending:
            self._check_open()
            self._session.receive_flush(self._clock())
            self._pump()

    async def settle(self) -> None:
        """Wait until all audio so far is processed, and a task that iterates has the events."""
        await asyncio.sleep(0)
        while self._driver.unanswered and not self._closed:
            self._changed.clear()
            await self._changed.wait()

    async def end(self) -> None:
        """No more audio: finish the open utterance. The last event is `SessionEnded`. A second call does nothing."""
        async with self._sending:
            if not self._closed:
                self._session.receive_eof(self._clock())
                self._pump()

    async def aclose(self) -> None:
        """Drop the session at once, with all unprocessed audio; waiting senders and readers return."""
        self._closed = True
        self._driver.abandon()
        self._changed.set()
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events in order, up to `SessionEnded` or until the session is closed."""
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
        """Leaving the block ends the audio, and its events can still be read. An exception drops the session."""
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
        """Carry jobs to the engine and events to the reader."""
        if events := self._driver.pump():
            for event in events:
                self._add(event)
            self._news.set()
        self._changed.set()

    def _add(self, event: Event) -> None:
        if isinstance(event, Partial) and len(self._events) >= _EVENT_LIMIT:
            last = self._events[-1]
            if isinstance(last, Partial) and last.utterance == event.utterance:
                self._events.pop()
                self.coalesced += 1
        self._events.append(event)

    def _hand_over(self, take: Call) -> None:
        """Pass an answer from a thread of the engine to the loop."""
        try:
            self._loop.call_soon_threadsafe(self._take, take)
        except RuntimeError:  # the loop was closed with the session still open
            self._closed = True
            self._driver.stop()

    def _take(self, take: Call) -> None:
        take()
        if not self._closed:
            self._pump()
