"""The `/v1/stream` websocket: messages in, one `StreamSession`'s events out. No recognition logic.

Three tasks share one client. The reader turns messages into calls of the session, the pump moves the session's events
to the outbox, the writer sends them and, at the end, closes; a fourth looks from time to time whether the client still
says anything. Whatever ends the input (`end`, an error, a limit, the server's own shutdown), the rest is the same: what
was accepted is finished, its finals are sent, the socket closes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from msgspec.structs import replace
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..streaming.config import SAMPLE_BYTES, AudioFormat
from ..streaming.errors import ConfigError, XlsrLiveError
from ..streaming.events import Error, Event, SessionEnded, SessionStarted, Warning, to_json
from ..streaming.live import StreamSession
from ..streaming.recognizer import Recognizer
from .clients import Account
from .kept import Kept
from .link import Link
from .logs import fields
from .messages import CLOSE, ClientMessage, Code, End, Flush, Grammar, Hotwords, ProtocolError, Start, parse
from .outbox import Outbox
from .refusals import WHY
from .settings import ServerSettings
from .stats import Stats, Tally

logger = logging.getLogger("xlsr_live.server")
ACK_EVERY_S: Final = 1.0
LAST_WORD_S: Final = 5.0  # for the close frame to a client that may no longer be reading


class NativeStream:
    """One client of `/v1/stream`. `run` once; `shut_down` and `drop` at any time, from the same event loop."""

    def __init__(
        self,
        name: str,
        websocket: WebSocket,
        recognizer: Recognizer,
        settings: ServerSettings,
        account: Account,
        stats: Stats,
        kept: Kept,
        late_refusal: Callable[[], Code | None],
    ) -> None:
        self.name = name
        self._kept = kept
        self._late_refusal = late_refusal  # asked at the first message: why the session cannot begin after all
        self._link = Link(websocket, grace_s=kept.grace_s, keeps=settings.max_unread_events)
        self._resume: Start | None = None  # this connection goes on with another session
        self._token: str | None = None  # for coming back
        self._acking: asyncio.TimerHandle | None = None  # until audio is acknowledged that has been received
        self._account = account
        self._stats = stats
        self._tally = Tally(stats)
        self._bytes = 0  # of audio
        self._websocket = websocket
        self._recognizer = recognizer
        self._settings = settings
        self._outbox = Outbox(settings.max_unread_events)
        self._session: StreamSession | None = None
        self._helpers: list[asyncio.Task[None]] = []  # all but the writer
        self._input: asyncio.Timeout | None = None  # while input is taken
        self._waiting: float | None = None  # since when the reader does, on the loop's clock
        self._idle = False
        self._stopping = False
        self._close = (1000, "")  # code and reason; the first reason to close stands

    async def run(self, subprotocol: str | None = None) -> Start | None:
        """Serve the client until it or the session ends. Releases everything, whichever way that happens.

        Returns what the client said if it wants to go on with another session, on this websocket.
        """
        await self._websocket.accept(subprotocol)
        logger.info("connected", extra=fields(client=self._account.client.name))
        try:
            async with asyncio.TaskGroup() as group:
                self._helpers += [group.create_task(self._read(group)), group.create_task(self._watch())]
                await self._write()
                for helper in self._helpers:
                    helper.cancel()
            return self._resume
        except* WebSocketDisconnect:
            logger.info("client left")
        except* XlsrLiveError as errors:  # the outbox is full, or the engine is gone: nothing more can be finished
            error = errors.exceptions[0]
            await self._last_word(getattr(error, "code", Code.INTERNAL_ERROR), str(error))
        except* Exception as bugs:
            logger.error("failed", exc_info=bugs)
            await self._last_word(Code.INTERNAL_ERROR, "the server failed; its log says more")
        finally:
            self._stats.coalesced += self._outbox.replaced
            if self._acking is not None:
                self._acking.cancel()
            if self._token is not None:
                self._kept.end(self._token)
            if self._session is not None:
                await self._session.aclose()
                self._stats.coalesced += self._session.coalesced
                self._stats.dropped += self._session.dropped
                self._session = None  # this may be kept for a while

    def shut_down(self) -> None:
        """Take no more audio, finish what was accepted, then close with 1001."""
        self._stopping = True
        self._link.give_up()
        with suppress(ProtocolError):  # the outbox is full, and the pump finds that out for itself
            self._tell(Warning(code=Code.SHUTTING_DOWN, message="the server stops; what it has heard is finished"))
        self._because(Code.SHUTTING_DOWN)
        self._stop_input()

    def drop(self) -> None:
        """Close now, finished or not."""
        self._because(Code.SHUTTING_DOWN)
        self._link.give_up()
        self._outbox.finish()

    @property
    def away(self) -> bool:
        """Whether the client's connection has broken, and it may come back."""
        return self._link.away

    @property
    def finished(self) -> bool:
        """Whether all has been said."""
        return self._link.finished

    async def fetched(self, websocket: WebSocket, events: int) -> bool:
        """All has been said: say again what the client has not seen. False if that is not kept any more."""
        return await self._link.again(websocket, events, self.name, self._close)

    def come_back(self, websocket: WebSocket, events: int) -> asyncio.Future[None] | None:
        """See `Link.attach`."""
        served = self._link.attach(websocket, events, self.name)
        self._outbox.wake()
        return served

    async def _read(self, group: asyncio.TaskGroup) -> None:
        try:
            async with asyncio.timeout(0 if self._stopping else self._settings.max_session_s) as self._input:
                try:
                    await self._take_input(group)
                finally:
                    self._input = None
        except TimeoutError:
            if self._idle:
                limit = self._settings.idle_timeout_s
                self._tell(Error(code=Code.IDLE_TIMEOUT, message=f"no message for {limit:g} s"))
            elif not self._stopping:
                limit = self._settings.max_session_s
                self._tell(Error(code=Code.SESSION_TOO_LONG, message=f"a session may last {limit:g} s; open another"))
        except XlsrLiveError as error:
            self._tell(Error(code=error.code, message=str(error)))
        if self._session is None:
            self._outbox.finish()
        else:
            await self._session.end()
        if self._resume is not None:  # what comes now is for another session
            return
        while True:  # to see the client leave; and one that sends first and reads later must not get stuck
            await self._link.receive()

    async def _take_input(self, group: asyncio.TaskGroup) -> None:
        message = await self._next()
        start = message if isinstance(message, Start) else Start()
        if start.resume is not None:
            self._resume = start
            self._outbox.finish()
            return
        self._stats.sessions += 1
        if (code := self._late_refusal()) is not None:
            raise ProtocolError(code, WHY[code])
        if start.config.lm_for == "all" and not self._settings.lm_partials:
            raise ProtocolError(
                Code.BAD_CONFIG, "this server has no language model in partials; leave lm_for at 'finals'"
            )
        await self._recognizer.prepare(start.config.grammar)
        self._link.sample_bytes = SAMPLE_BYTES[start.encoding] * start.channels
        session = self._session = self._recognizer.session(start.config, start.audio, name=self.name)
        if start.resumable and self._kept.grace_s:
            self._token = self._kept.keep(self._account.client, self)
        else:
            self._link.give_up()
        self._helpers.append(group.create_task(self._pump(session)))
        if message is start:
            message = await self._next()
        while not isinstance(message, End):
            match message:
                case Start():
                    raise ProtocolError(Code.UNEXPECTED_MESSAGE, "`start` must be the first message")
                case Flush():
                    await session.flush()
                case Hotwords() | Grammar():
                    try:
                        if isinstance(message, Hotwords):
                            await session.set_hotwords(message.phrases)
                        else:
                            await session.set_grammar(message.text)
                    except ConfigError as error:  # the stream is as good as before
                        self._tell(Warning(code=error.code, message=str(error)))
                case _:
                    await session.send(message)  # waits while the backlog is full, and so in the end does the client
                    await self._count(len(message), start.audio)
            message = await self._next()

    async def _count(self, size: int, audio: AudioFormat) -> None:
        """So many bytes have been heard; wait if the client has had its share of the minute."""
        self._bytes += size
        if self._bytes > self._settings.max_session_bytes:
            limit = self._settings.max_session_bytes
            raise ProtocolError(Code.SESSION_TOO_LONG, f"a session may have {limit} bytes of audio; open another")
        seconds = size / (SAMPLE_BYTES[audio.encoding] * audio.channels * audio.sample_rate)
        self._stats.audio_s += seconds
        if (wait := self._account.pay(seconds, asyncio.get_running_loop().time())) > 0:
            await asyncio.sleep(wait)

    async def _next(self) -> bytes | ClientMessage:
        self._waiting = asyncio.get_running_loop().time()
        data = await self._link.receive()
        self._waiting = None
        if self._token is not None and self._acking is None:
            self._acking = asyncio.get_running_loop().call_later(ACK_EVERY_S, self._acknowledge)
        size = len(data) if isinstance(data, bytes) else len(data.encode())
        if size > self._settings.max_message_bytes:
            text = f"{size} bytes in one message; at most {self._settings.max_message_bytes} are taken"
            raise ProtocolError(Code.MESSAGE_TOO_LARGE, text)
        return data if isinstance(data, bytes) else parse(data)

    def _acknowledge(self) -> None:
        self._acking = None
        self._link.ack()
        self._outbox.wake()

    async def _watch(self) -> None:
        """Stop the input of a client that has fallen silent: one look now and then, not a timeout for every message."""
        limit, clock = self._settings.idle_timeout_s, asyncio.get_running_loop().time
        while (left := limit if self._waiting is None else self._waiting + limit - clock()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
        self._idle = not self._stopping
        self._stop_input()

    def _stop_input(self) -> None:
        if self._input is not None and not self._input.expired():
            self._input.reschedule(asyncio.get_running_loop().time())

    async def _pump(self, session: StreamSession) -> None:
        async for event in session:
            self._tell(event)
        self._outbox.finish()

    async def _write(self) -> None:
        async for event in self._outbox:
            if event is not None:
                self._link.add(to_json(event))
            await self._link.flush()
            if isinstance(event, SessionEnded):
                heard = fields(audio_s=event.audio_s, utterances=event.utterances, unread=self._outbox.replaced)
                logger.info("ended", extra=heard)
        if self._resume is None:
            await self._link.close(*self._close)

    def _tell(self, event: Event) -> None:
        if isinstance(event, SessionStarted) and self._token is not None:
            event = replace(event, resume=self._token)
        self._tally.event(event)
        self._outbox.put(event)
        if isinstance(event, Error):
            self._because(event.code)

    def _because(self, code: str) -> None:
        if self._close[0] == 1000:
            self._close = CLOSE.get(code, 1011), str(code)
            logger.info("closing", extra=fields(code=str(code)))

    async def _last_word(self, code: str, message: str) -> None:
        """Try to tell a client why it is dropped; one that does not read will not hear it."""
        self._because(code)
        self._link.give_up()
        self._link.add(to_json(Error(code=code, message=message)))
        try:
            async with asyncio.timeout(LAST_WORD_S):
                await self._link.flush()
                await self._link.close(*self._close)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):  # RuntimeError: it was closed already
            logger.info("could not be told")
