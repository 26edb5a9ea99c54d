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
from .driver import Call, SessionDriver, Translate
from .engine.service import EngineService
from .errors import ConfigError, SessionClosed
from .protocol.events import Event, Partial
from .session.session import Session

_PIECE_BYTES = 32_768  # larger packets are split: one might not fit into a session
_PIECE_SAMPLES = 8_192
_EVENT_LIMIT = 256  # unread events before partials are coalesced

Clock = Callable[[], float]


class StreamSession:
    """Created by `Recognizer.session()`; belongs to the event loop that was running there."""

    def __init__(
        self,
        session: Session,
        engine: EngineService,
        *,
        compile: Callable[[str, Vocabulary], Awaitable[None]] | None = None,
        languages: Callable[[str | None, Sequence[str]], Awaitable[LanguageSet]] | None = None,
        translate: Translate | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.coalesced = 0  # partials that a slow reader missed
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._driver = SessionDriver(
            session, engine, hand_over=self._hand_over, clock=clock, adaptive=True, translate=translate
        )
        self._compile = compile  # a grammar, in another thread
        self._languages = languages  # finds and loads them
        self._clock = clock
        self._end_timer: asyncio.TimerHandle | None = None  # runs while the end waits for translations
        self._sending = asyncio.Lock()
        self._changed = asyncio.Event()  # an answer arrived: there may be room or events
        self._unbroken = 0  # bytes or samples sent since `send` last yielded to the loop
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self._safe = session.safe
        self._pump()

    @property
    def name(self) -> str:
        return self._session.name

    @property
    def received_s(self) -> float:
        """Seconds of audio received."""
        return self._session.received_s

    @property
    def safe(self) -> int:
        """The sample at the sender's rate from which another server can continue, by the events read so far."""
        if not self._events:
            self._safe = self._session.safe
        return self._safe

    @property
    def quiet_s(self) -> float:
        """Time in seconds before which no further speech starts; 0 while speech is open or events are unread."""
        return 0.0 if self._events else self._session.quiet_s

    @property
    def dropped(self) -> int:
        """Samples accepted and then lost; other than 0 only because of a bug."""
        return self._session.dropped

    @property
    def unfinished(self) -> int:
        """Samples at 16 kHz of unfinished utterances, which `aclose` drops."""
        return self._session.unfinished

    async def send(self, audio: bytes | NDArray[np.floating]) -> None:
        """Send a packet: bytes in the declared format, or float samples (n,) or (n, channels) in [-1, 1].

        Lists and tensors are converted. Raises `AudioError` for samples that do not fit the declared format (the packet
        is refused), and `SessionClosed` after `end`.
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

        Raises `ConfigError` and then keeps the earlier ones.
        """
        async with self._sending:
            self._check_open()
            self._session.receive_hotwords(hotwords)

    async def set_grammar(self, grammar: str) -> None:
        """Replace the grammar of commands from here on; an empty text removes it.

        Raises `GrammarError` and then keeps the earlier one.
        """
        async with self._sending:
            self._check_open()
            await self._compile_aside(grammar, self._session.vocabulary)
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
            await self._compile_aside(self._session.grammar, languages.only)
            self._check_open()
            self._session.receive_languages(languages)

    async def flush(self) -> None:
        """End the open utterance here, without waiting for silence."""
        async with self._sending:
            self._check_open()
            self._session.receive_flush(self._clock())
            self._pump()

    async def settle(self) -> None:
        """Wait until all audio so far is processed and a task that iterates can read its events."""
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
        """Drop the session and all unprocessed audio at once; wake waiting senders and readers."""
        self._closed = True
        self._driver.abandon()
        if self._end_timer is not None:
            self._end_timer.cancel()
        self._changed.set()
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events in order, up to `SessionEnded` or until the session is closed."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._closed or self._driver.ended:
                return
            self._news.clear()
            await self._news.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaving the block ends the audio; events stay readable. An exception drops the session."""
        await (self.end() if kind is None else self.aclose())

    # ── how it works ──

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed("the session was closed")

    async def _compile_aside(self, grammar: str, vocabulary: Vocabulary | None) -> None:
        if self._compile is not None and vocabulary is not None:
            await self._compile(grammar, vocabulary)

    async def _room_for(self, piece: bytes | NDArray[np.floating]) -> None:
        self._check_open()
        while self._driver.congested or not self._session.can_take(piece):
            self._changed.clear()
            await self._changed.wait()
            self._check_open()

    def _pump(self) -> None:
        """Pass jobs to the engine and events to the reader."""
        if events := self._driver.pump():
            for event in events:
                self._add(event)
            self._news.set()
        self._changed.set()
        if self._end_timer is None and (wait := self._driver.ends_within_s) not in (None, float("inf")):
            self._end_timer = self._loop.call_later(wait, self._take, self._driver.give_up)

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
