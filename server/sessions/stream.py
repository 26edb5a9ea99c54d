"""One client, whatever dialect it speaks: what all adapters share. No recognition logic, and no words of any dialect.

Tasks share the client. The reader lets the dialect converse: it turns messages into calls of a session. A pump for each
session hands its events to the dialect, which puts what it makes of them into the outbox; the writer sends that and, at
the end, closes; another task looks from time to time whether the client still says anything. Whatever ends the input
(the client, an error, a limit, the server's own shutdown), the rest is the same: what was accepted is finished, its
finals are sent, the connection closes.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable
from contextlib import suppress
from typing import ClassVar, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...streaming.config import SAMPLE_BYTES, AudioFormat, SessionConfig
from ...streaming.errors import XlsrLiveError
from ...streaming.frames import SAMPLE_RATE
from ...streaming.live import StreamSession
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.protocol.events import Error, Event, SessionEnded, Warning
from ...streaming.protocol.messages import TOO_DEEP
from ..logs import fields
from ..net.outbox import Outbox
from ..refusals import CLOSE_CODES
from ..stats import Tally
from ..transport import ClientLeft, Data, Transport
from .admission import Seat

logger = logging.getLogger("xlsr_live.server")
LAST_WORD_S: Final = 5.0  # for the goodbye to a client that may no longer be reading

Received = TypeVar("Received")


class ClientStream(ABC, Generic[Received]):
    """A dialect says what follows from messages (`converse`) and from events (`told`, `complaint`).

    `run` once; `shut_down` and `drop` at any time, from the same event loop.
    """

    dialect: ClassVar[str]  # its name in the numbers
    forgives: ClassVar[frozenset[str]] = (
        frozenset()
    )  # errors after which a session goes on, and that the dialect has no place for

    def __init__(self, name: str, transport: Transport[Received], seat: Seat) -> None:
        self.name = name
        self.seat = seat
        self.recognizer = seat.recognizer
        self.settings = seat.settings
        self.idle_timeout_s = seat.settings.idle_timeout_s
        self.outbox = Outbox(seat.settings.max_unread_events)
        self.handed_over = False  # the connection goes on with another stream
        self._tally = Tally(seat.stats)
        self._audio = AudioFormat()  # of the open session
        self._transport = transport
        self._session: StreamSession | None = None
        self._pumping: asyncio.Task[None] | None = None  # what `_session` says
        self._group = asyncio.TaskGroup()
        self._helpers: list[asyncio.Task[None]] = []  # all but the writer
        self._input: asyncio.Timeout | None = None  # while input is taken
        self._waiting: float | None = None  # since when the reader does, on the loop's clock
        self._idle = False
        self._stopping = False
        self._last = False  # no session follows this one
        self._close = (1000, "")  # code and reason; the first reason to close stands

    # ── what a dialect is ──

    @abstractmethod
    async def converse(self) -> None:
        """Take messages (`next`) until the client wants no more. Raises `ProtocolError` and other `XlsrLiveError`."""

    @abstractmethod
    def told(self, event: Event) -> None:
        """Say what a session's event is in this dialect; errors go to `complaint`."""

    @abstractmethod
    def complaint(self, error: Error) -> Data | None:
        """An error in this dialect; None where it knows only the close code."""

    def forgives_error(self, problem: Error) -> bool:
        """Whether the client need not know of an error after which the session goes on."""
        return problem.code in self.forgives

    def closing(self, code: str) -> tuple[int, str]:
        """Code and reason of the goodbye after this error."""
        return CLOSE_CODES.get(code, 1011), code

    def goodbye(self) -> None:
        """Say what comes last, after all that the sessions had to say."""

    async def woken(self) -> None:
        """In the writer, after `outbox.wake`."""

    def left(self) -> None:
        """The client has gone, or all has been said."""

    @property
    def away(self) -> bool:
        """Whether the client cannot be heard now, and may come back."""
        return False

    # ── what a dialect can do ──

    async def next(self) -> Received:
        """The client's next message."""
        self._waiting = asyncio.get_running_loop().time()
        message = await self._transport.receive()
        self._waiting = None
        return message

    def say(self, data: Data, topic: Hashable = None) -> None:
        """Send one message, soon. With a `topic` it may take the place of an unsent one with the same."""
        self.outbox.put(data, topic)

    def join(self, *texts: str) -> str:
        """Texts one after the other, as the model's vocabulary separates words."""
        return self.recognizer.encoder.vocabulary.join(text for text in texts if text)

    def begin(self, config: SessionConfig, audio: AudioFormat) -> StreamSession:
        """Open a session; one that was open must be finished. Its events go to `told`. Raises `ConfigError`, and
        `ProtocolError` if the server cannot serve it.
        """
        self.seat.begin(self.dialect)
        if config.lm_for == "all" and not self.settings.lm_partials:
            raise ProtocolError(
                Code.BAD_CONFIG, "this server has no language model in partials; leave lm_for at 'finals'"
            )
        session = self._session = self.recognizer.session(config, audio, name=self.name)
        self._audio = audio
        self._pumping = self._group.create_task(self._pump(session))
        self._helpers.append(self._pumping)
        return session

    async def hear(self, audio: bytes | NDArray[np.floating]) -> None:
        """Audio for the open session, as `StreamSession.send` takes it. Waits while the backlog is full or the client
        has had its share of the minute, and so in the end does the client.
        """
        assert self._session is not None
        await self._session.send(audio)
        form = self._audio
        if isinstance(audio, bytes):
            frames = len(audio) / (SAMPLE_BYTES[form.encoding] * form.channels)
            await self.seat.take(len(audio), frames / form.sample_rate)
        else:
            await self.seat.take(audio.nbytes, len(audio) / form.sample_rate)

    async def finish(self) -> None:
        """End the open session, if there is one, and wait until all of its events were told."""
        if self._session is not None and self._pumping is not None:
            await self._session.end()
            await self._settled(self._pumping)

    async def discard(self) -> None:
        """Drop the open session, if there is one, with all that it has not yet told."""
        if self._session is not None and self._pumping is not None:
            await self._session.aclose()
            await self._settled(self._pumping)

    async def _settled(self, pumping: asyncio.Task[None]) -> None:
        await asyncio.wait([pumping])  # which, unlike the pump itself, may be interrupted
        self._helpers.remove(pumping)
        await self._release()

    async def _release(self) -> None:
        if self._session is not None:
            await self._session.aclose()
            self.seat.stats.coalesced += self._session.coalesced
            self.seat.stats.dropped += self._session.dropped
        self._session = self._pumping = None

    # ── what the server does ──

    async def run(self) -> None:
        """Serve the client until it or the session ends. Releases everything, whichever way that happens."""
        await self._transport.open()
        logger.info("connected", extra=fields(client=self.seat.account.client.name, dialect=self.dialect))
        left = False
        try:
            async with self._group as group:
                self._helpers += [group.create_task(self._read()), group.create_task(self._watch())]
                await self._write()
                for helper in self._helpers:
                    helper.cancel()
        except* ClientLeft:
            left = True
            logger.info("client left")
        except* XlsrLiveError as errors:  # the outbox is full, or the engine is gone: nothing more can be finished
            error = errors.exceptions[0]
            left = (code := getattr(error, "code", Code.INTERNAL_ERROR)) == Code.SLOW_READER
            await self.last_word(code, str(error))
        except* Exception as bugs:
            logger.error("failed", exc_info=bugs)
            await self.last_word(Code.INTERNAL_ERROR, "the server failed; its log says more")
        finally:
            self.seat.stats.coalesced += self.outbox.replaced
            self.left()
            self._account(left)
            await self._release()

    def _account(self, left: bool) -> None:
        """For accepted audio that will not be finished: the client `left` or did not read, or it is our doing."""
        if lost := self._unfinished:
            self.seat.stats.abandoned += lost if left else 0
            self.seat.stats.dropped += 0 if left else lost
            about = fields(unfinished_s=round(lost / SAMPLE_RATE, 3))
            logger.log(logging.INFO if left else logging.WARNING, "not finished", extra=about)

    @property
    def _unfinished(self) -> int:
        """Samples that are lost if the open session is released now."""
        return 0 if self._session is None else self._session.unfinished

    @property
    def _loss(self) -> str:
        lost = self._unfinished
        return f"; {lost / SAMPLE_RATE:.2f} s of accepted audio are not finished" if lost else ""

    def shut_down(self) -> None:
        """Take no more audio, finish what was accepted, then close with 1001."""
        self._stopping = True
        with suppress(ProtocolError):  # the outbox is full, and the pump finds that out for itself
            self.told(Warning(code=Code.SHUTTING_DOWN, message="the server stops; what it has heard is finished"))
        self._because(Code.SHUTTING_DOWN)
        self._stop_input()

    def drop(self) -> None:
        """Close now, finished or not."""
        if loss := self._loss:
            with suppress(ProtocolError):
                self.told(Warning(code=Code.SHUTTING_DOWN, message=f"the server stops{loss}"))
        self._because(Code.SHUTTING_DOWN)
        self.outbox.finish()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(0 if self._stopping else self.settings.max_session_s) as self._input:
                try:
                    await self.converse()
                finally:
                    self._input = None
        except TimeoutError:
            if self._idle:
                self._complain(Code.IDLE_TIMEOUT, f"no message for {self.idle_timeout_s:g} s")
            elif not self._stopping:
                limit = self.settings.max_session_s
                self._complain(Code.SESSION_TOO_LONG, f"a session may last {limit:g} s; open another")
        except XlsrLiveError as error:
            self._complain(error.code, str(error))
        except RecursionError:  # of a JSON library, at what a dialect does not know and keeps as it is
            self._complain(Code.BAD_MESSAGE, TOO_DEEP)
        self._last = True
        if self._session is None or self._pumping is None or self._pumping.done():
            self._part()
        else:
            await self._session.end()
        while (
            not self.handed_over
        ):  # to see the client leave; and one that sends first and reads later must not get stuck
            with suppress(ProtocolError):
                await self._transport.receive()

    async def _watch(self) -> None:
        """Stop the input of a client that has fallen silent: one look now and then, not a timeout for every message."""
        while (left := self._patience()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
        self._idle = not self._stopping
        self._stop_input()

    def _patience(self) -> float:
        """For how long the client may go on saying nothing, in seconds."""
        waiting = None if self.away else self._waiting
        return self.idle_timeout_s - (0.0 if waiting is None else asyncio.get_running_loop().time() - waiting)

    def _stop_input(self) -> None:
        if self._input is not None and not self._input.expired():
            self._input.reschedule(asyncio.get_running_loop().time())

    async def _pump(self, session: StreamSession) -> None:
        async for event in session:
            if not isinstance(event, Error):
                self._tally.event(event)
                self.told(event)
            elif not self.forgives_error(event) or not self.recognizer.engine.alive:
                self._complain(event.code, event.message, event)
            if isinstance(event, SessionEnded):
                heard = fields(audio_s=event.audio_s, utterances=event.utterances, unread=self.outbox.replaced)
                logger.info("ended", extra=heard)
        if self._last:
            self._part()

    def _part(self) -> None:
        self.goodbye()
        self.outbox.finish()

    async def _write(self) -> None:
        async for data in self.outbox:
            if data is None:
                await self.woken()
            else:
                await self._transport.send(data)
        if not self.handed_over:
            await self._transport.close(*self._close)

    def _complain(self, code: str, message: str, error: Error | None = None) -> None:
        error = error or Error(code=code, message=message)
        self._tally.event(error)
        if (data := self.complaint(error)) is not None:
            self.say(data)
        self._because(code)

    def _because(self, code: str) -> None:
        if self._close[0] == 1000:
            self._close = self.closing(code)
            logger.info("closing", extra=fields(code=str(code)))

    async def last_word(self, code: str, message: str) -> None:
        """Try to tell a client why it is dropped; one that does not read will not hear it."""
        error = Error(code=code, message=message + self._loss)
        self._tally.event(error)
        self._because(code)
        try:
            async with asyncio.timeout(LAST_WORD_S):
                if (data := self.complaint(error)) is not None:
                    await self._transport.send(data)
                await self._transport.close(*self._close)
        except (TimeoutError, ClientLeft):
            logger.info("could not be told")
