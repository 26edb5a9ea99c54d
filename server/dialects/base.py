"""The base of all dialects: one client's connection, from its first message to the last.

Several tasks serve a client. The reader runs the dialect's `handle_messages`, which turns messages into calls of a
session. A pump per session passes its events to the dialect's `on_event`, which queues messages in the outbox. The
writer sends those and finally closes the connection. A watchdog ends the input of a silent client. Whatever ends the
input (the client, an error, a limit, a server that stops), the rest is the same: accepted audio is finished, its finals
are sent, the connection is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from contextlib import suppress
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...streaming.config import AudioFormat, Origin, SessionConfig
from ...streaming.errors import XlsrLiveError
from ...streaming.frames import SAMPLE_RATE
from ...streaming.languages import bcp47
from ...streaming.live import StreamSession
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.protocol.events import Error, Partial, SessionEnded, Warning
from ...streaming.protocol.events import Final as FinalEvent
from ...streaming.protocol.messages import TOO_DEEP
from ..logs import fields
from ..net.send_queue import SendQueue
from ..sessions.active import ActiveSession
from ..sessions.admission import Lease
from ..sessions.idle import IdleTimer
from ..stats import Tally
from ..transport import ClientLeft, Data, Transport
from .hooks import DialectHooks

logger = logging.getLogger("xlsr_live.server")
LAST_ERROR_S: Final = 5.0  # for an error to a client that may no longer read

Received = TypeVar("Received")


class Dialect(DialectHooks, Generic[Received]):
    """One client. Call `run` once; `shut_down` and `drop` at any time, from the same event loop."""

    def __init__(self, name: str, transport: Transport[Received], lease: Lease) -> None:
        self.name = name
        self.lease = lease
        self.recognizer = lease.recognizer
        self.settings = lease.settings
        self.idle = IdleTimer(lease.settings.idle_timeout_s)
        self.outbox = SendQueue(lease.settings.max_unread_events)
        self.language: str | None = None  # of the newest text, if the model has several
        self.handed_over = False  # the connection continues with another stream
        self._tally = Tally(lease.stats)
        self._transport = transport
        self._active: ActiveSession | None = None
        self._group = asyncio.TaskGroup()
        self._input: asyncio.Timeout | None = None  # while messages are handled
        self._timed_out = False  # the client was silent for too long
        self._stopping = False  # the server stops
        self._input_ended = False  # no session follows the active one
        self._close = (1000, "")  # code and reason; the first error decides

    # ── what a dialect can call ──

    async def next_message(self) -> Received:
        self.idle.start(asyncio.get_running_loop().time())
        message = await self._take_message()
        self.idle.stop()
        return message

    def send(self, data: Data, topic: Hashable = None) -> None:
        """Queue one message. One with a `topic` may replace an unsent one with the same topic."""
        self.outbox.put(data, topic)

    def join(self, *texts: str) -> str:
        """Concatenate texts with the word separator of the newest text's language."""
        return self.separator.join(text for text in texts if text)

    @property
    def separator(self) -> str:
        """Between words of the newest text."""
        return self.recognizer.languages.vocabulary(self.language).separator

    @property
    def tag(self) -> str | None:
        """The newest text's language as a BCP 47 tag; None if the model does not have several."""
        return None if self.language is None else bcp47(self.language)

    async def begin_session(
        self, config: SessionConfig, audio: AudioFormat, origin: Origin | None = None
    ) -> StreamSession:
        """Open a session, or continue one of another server; a previous one must be finished. Its events go to
        `on_event`. Raises `ConfigError`, and `ProtocolError` if the server cannot serve it.
        """
        self.lease.start(self.dialect)
        await self.recognizer.prepare(config)
        if config.lm_for == "all" and not (self.settings.lm_partials or self.recognizer.assets.lm_in_partials):
            raise ProtocolError(
                Code.BAD_CONFIG, "this server has no language model in partials; leave lm_for at 'auto'"
            )
        session = self.recognizer.session(config, audio, name=self.name, origin=origin)
        self._active = ActiveSession(session, audio, self._group.create_task(self._pump(session)), self.lease)
        return session

    async def send_audio(self, audio: bytes | NDArray[np.floating]) -> None:
        """Pass audio to the open session, as `StreamSession.send` takes it. Waits while the backlog is full or the
        client's allowance is used up, and so slows the client down.
        """
        assert self._active is not None
        await self._active.send(audio)

    async def finish_session(self) -> None:
        """End the open session, if there is one, and wait until all its events are handled."""
        if self._active is not None:
            await self._active.session.end()
            await self._active.pumped()
            self._active = None

    async def discard_session(self) -> None:
        """Drop the open session, if there is one, with the events that are still to come."""
        if self._active is not None:
            await self._active.session.aclose()
            await self._active.pumped()
            self._active = None

    # ── what the server calls ──

    async def run(self) -> None:
        """Serve the client until it leaves or the session ends. Releases everything in either case."""
        await self._transport.open()
        logger.info("connected", extra=fields(client=self.lease.account.client.name, dialect=self.dialect))
        client_left = False
        try:
            async with self._group as group:
                helpers = [group.create_task(self._read()), group.create_task(self._watch_idle())]
                await self._write()
                if self._active is not None:
                    helpers.append(self._active.pump)
                for helper in helpers:
                    helper.cancel()
        except* ClientLeft:
            client_left = True
            logger.info("client left")
        except* XlsrLiveError as errors:  # the outbox is full, or the engine has stopped: nothing more can be finished
            error = errors.exceptions[0]
            client_left = (code := getattr(error, "code", Code.INTERNAL_ERROR)) == Code.SLOW_READER
            await self.abort(code, str(error))
        except* Exception as bugs:
            logger.error("failed", exc_info=bugs)
            await self.abort(Code.INTERNAL_ERROR, "the server failed; see its log")
        finally:
            self.lease.stats.coalesced += self.outbox.replaced
            self.on_close()
            self._count_lost_audio(client_left)
            if self._active is not None:
                await self._active.release()
                self._active = None

    def leave(self, within_s: float) -> bool:
        """Ask the client to move to another server within this time. False if it cannot."""
        return False

    def shut_down(self) -> None:
        """Take no more audio, finish what was accepted, then close with `stopping_code`."""
        self._stopping = True
        with suppress(ProtocolError):  # the outbox is full: the pump finds that out by itself
            self.on_event(Warning(code=Code.SHUTTING_DOWN, message="the server stops; accepted audio is finished"))
        self._set_close(Code.SHUTTING_DOWN)
        self._stop_input()

    def drop(self) -> None:
        """Close now, finished or not."""
        if loss := self._loss:
            with suppress(ProtocolError):
                self.on_event(Warning(code=Code.SHUTTING_DOWN, message=f"the server stops{loss}"))
        self._set_close(Code.SHUTTING_DOWN)
        self.outbox.finish()

    async def abort(self, code: str, message: str) -> None:
        """Try to send the client the error that ends its session; a client that does not read misses it."""
        error = Error(code=code, message=message + self._loss)
        self._tally.event(error)
        self._set_close(code)
        try:
            async with asyncio.timeout(LAST_ERROR_S):
                if (data := self.encode_error(error)) is not None:
                    await self._transport.send(data)
                await self._transport.close(*self._close)
        except (TimeoutError, ClientLeft):
            logger.info("the client did not read the error")

    # ── the tasks ──

    async def _take_message(self) -> Received:
        # With messages queued, `receive` does not suspend: a flood of small ones would stall all other clients. Their
        # turn comes before the message, because a timeout must not lose one that the transport has counted.
        await asyncio.sleep(0)
        return await self._transport.receive()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(0 if self._stopping else self.settings.max_session_s) as self._input:
                try:
                    await self.handle_messages()
                finally:
                    self._input = None
        except TimeoutError:
            if self._timed_out:
                self._report(Error(code=Code.IDLE_TIMEOUT, message=f"no message for {self.idle.limit_s:g} s"))
            elif not self._stopping:
                message = f"a session may last {self.settings.max_session_s:g} s; open another"
                self._report(Error(code=Code.SESSION_TOO_LONG, message=message))
        except XlsrLiveError as error:
            self._report(Error(code=error.code, message=str(error)))
        except RecursionError:  # of a JSON library, on a field that a dialect does not parse
            self._report(Error(code=Code.BAD_MESSAGE, message=TOO_DEEP))
        self._input_ended = True
        if self._active is None or self._active.pump.done():
            self._end_output()
        else:
            await self._active.session.end()
        # Read on, to notice that the client leaves, and so that a client that sends first and reads later never blocks.
        while not self.handed_over:
            with suppress(ProtocolError):
                await self._take_message()

    async def _watch_idle(self) -> None:
        """Stop the input of a silent client. Polling costs less than a timeout for every message."""
        while (left := self._until_idle()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
        self._timed_out = not self._stopping
        self._stop_input()

    def _until_idle(self) -> float:
        """Seconds until the client is silent for too long; the time that it is away does not count."""
        return self.idle.limit_s if self.away else self.idle.remaining(asyncio.get_running_loop().time())

    def _stop_input(self) -> None:
        if self._input is not None and not self._input.expired():
            self._input.reschedule(asyncio.get_running_loop().time())

    async def _pump(self, session: StreamSession) -> None:
        async for event in session:
            if isinstance(event, Partial | FinalEvent):
                self.language = event.language or None
            if not isinstance(event, Error):
                self._tally.event(event)
                self.on_event(event)
            elif not self.ignores_error(event) or not self.recognizer.engine.alive:
                self._report(event)
            if isinstance(event, SessionEnded):
                about = fields(audio_s=event.audio_s, utterances=event.utterances, unread=self.outbox.replaced)
                logger.info("ended", extra=about)
        if self._input_ended:
            self._end_output()

    async def _write(self) -> None:
        async for data in self.outbox:
            if data is None:
                await self.on_wake()
            else:
                await self._transport.send(data)
        if not self.handed_over:
            await self._transport.close(*self._close)

    def _end_output(self) -> None:
        self.on_end()
        self.outbox.finish()

    def _report(self, error: Error) -> None:
        self._tally.event(error)
        if (data := self.encode_error(error)) is not None:
            self.send(data)
        self._set_close(error.code)

    def _set_close(self, code: str) -> None:
        if self._close[0] == 1000:
            self._close = self.close_frame(code)
            logger.info("closing", extra=fields(code=str(code)))

    # ── accepted audio that is lost ──

    def _count_lost_audio(self, client_left: bool) -> None:
        """`abandoned` counts audio of clients that left or did not read, `dropped` audio that the server gave up."""
        if lost := self._unfinished:
            self.lease.stats.abandoned += lost if client_left else 0
            self.lease.stats.dropped += 0 if client_left else lost
            about = fields(unfinished_s=round(lost / SAMPLE_RATE, 3))
            logger.log(logging.INFO if client_left else logging.WARNING, "not finished", extra=about)

    @property
    def _unfinished(self) -> int:
        """Samples that are lost if the active session is released now."""
        return 0 if self._active is None else self._active.unfinished

    @property
    def _loss(self) -> str:
        lost = self._unfinished
        return f"; {lost / SAMPLE_RATE:.2f} s of accepted audio are not finished" if lost else ""
