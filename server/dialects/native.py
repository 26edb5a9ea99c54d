"""The native protocol at `/v1/stream`: session events go out unchanged. Its clients may resume a session after their
connection broke, and continue it on another server.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace
from starlette.websockets import WebSocket

from ...streaming.config import SAMPLE_BYTES
from ...streaming.errors import ConfigError, ModelError
from ...streaming.live import StreamSession
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.protocol.events import (
    Error,
    Event,
    Moving,
    Partial,
    SessionMoved,
    SessionStarted,
    Shared,
    Warning,
    to_json,
)
from ...streaming.protocol.messages import (
    ClientMessage,
    End,
    Flush,
    Grammar,
    Hotwords,
    Movable,
    SetLanguage,
    Share,
    Start,
    parse,
)
from ..access.access import subprotocol
from ..refusals import CLOSE_CODES
from ..sessions.admission import Lease
from ..sessions.link import Link
from ..sessions.sharing import SharedSession
from .websocket import WebSocketDialect, check_size

ACK_EVERY_S: Final = 1.0
UNSHARED: Final = "this server shares no sessions (max_viewers is 0)"


class NativeDialect(WebSocketDialect):
    """A session in the native protocol."""

    dialect = "native"
    stopping_code = CLOSE_CODES[Code.SHUTTING_DOWN]

    def __init__(self, name: str, websocket: WebSocket, lease: Lease) -> None:
        super().__init__(name, websocket, lease)
        self.idle.limit_s = min(lease.settings.request_timeout_s, self.idle.limit_s)  # for the first message
        self.resume: Start | None = None  # the first message of a client that resumes another session
        self._token: str | None = None  # with which this session can be resumed
        self._began = ""  # time of the session's start
        self._shared: SharedSession | None = None
        self._early: list[Event] | None = []  # answers to messages before `session_started` was sent, which is first
        self._session: StreamSession | None = None
        self._movable = False  # whether the client moves its session when this server stops
        self._ack_timer: asyncio.TimerHandle | None = None  # runs while received audio is not acknowledged

    def transport(self, websocket: WebSocket, lease: Lease) -> Link:
        keeps = lease.settings.max_unread_events
        self._link = Link(websocket, subprotocol(websocket), grace_s=lease.resume_store.grace_s, keeps=keeps)
        return self._link

    async def handle_messages(self) -> None:
        message = await self._parsed_message()
        self.idle.limit_s = self.settings.idle_timeout_s
        start = message if isinstance(message, Start) else Start()
        if start.resume is not None:
            self.resume, self.handed_over = start, True
            return
        session = await self._start(start)
        if message is start:
            message = await self._parsed_message()
        while not isinstance(message, End):
            match message:
                case Start():
                    raise ProtocolError(Code.UNEXPECTED_MESSAGE, "`start` must be the first message")
                case Flush():
                    await session.flush()
                case Movable():
                    self._movable = self._token is not None
                case Hotwords() | Grammar() | SetLanguage():
                    await self._change(session, message)
                case Share():
                    self._share(message)
                case _:
                    await self.send_audio(message)
            message = await self._parsed_message()

    async def _start(self, start: Start) -> StreamSession:
        self.lease.start(self.dialect)
        self._link.sample_bytes = SAMPLE_BYTES[start.encoding] * start.channels
        self._began = datetime.now(UTC).isoformat(timespec="seconds")
        if start.share and not self.lease.sharing.limit:
            raise ProtocolError(Code.BAD_CONFIG, UNSHARED)
        self._session = session = await self.begin_session(start.config, start.audio, start.origin)
        if start.origin is not None:
            self._link.begin(start.origin.sample, start.events)
            self.lease.stats.moved += 1
        if start.share:
            self._shared = self.lease.sharing.open(self._began)
        if start.resumable and self.lease.resume_store.grace_s:
            self._token = self.lease.resume_store.add(self.lease.account.client, self)
        else:
            self._link.abandon()
        return session

    async def _change(self, session: StreamSession, message: Hotwords | Grammar | SetLanguage) -> None:
        try:
            match message:
                case Hotwords():
                    await session.set_hotwords(message.phrases)
                case Grammar():
                    await session.set_grammar(message.text)
                case SetLanguage():
                    await session.set_language(message.language, message.allowed_languages)
        except (ConfigError, ModelError) as error:  # the session keeps what it had
            self._answer(Warning(code=error.code, message=str(error)))

    def _share(self, message: Share) -> None:
        if message.on:
            if not self.lease.sharing.limit:
                return self._answer(Warning(code=Code.BAD_CONFIG, message=UNSHARED))
            self._shared = self._shared or self.lease.sharing.open(self._began)
            return self._answer(self._shared.set_title(message.title))
        if self._shared is not None:
            self.lease.sharing.revoke(self._shared)
            self._shared = None
        self._answer(Shared(began=self._began))

    def _answer(self, event: Event) -> None:
        if self._early is None:
            self.on_event(event)
        else:
            self._early.append(event)

    async def _parsed_message(self) -> bytes | ClientMessage:
        data = await self.next_message()
        if self._token is not None and self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_EVERY_S, self._acknowledge)
        data = check_size(self.settings.max_message_bytes, data)
        return data if isinstance(data, bytes) else parse(data)

    def on_event(self, event: Event) -> None:
        if isinstance(event, SessionStarted | SessionMoved):
            if self._token is not None:
                seconds = self.lease.resume_store.grace_s
                event = replace(event, resume=self._token, resume_s=seconds, movable=True)
            event = replace(event, share=UNSET if self._shared is None else self._shared.key)
        text = to_json(event)
        if self._shared is not None:
            self._shared.publish(event, text)
        self.send(text, event.utterance if isinstance(event, Partial) else None)
        if isinstance(event, SessionStarted | SessionMoved):
            early, self._early = self._early or [], None
            for each in early:
                self.on_event(each)

    def encode_error(self, error: Error) -> str:
        return to_json(error)

    def on_close(self) -> None:
        self._link.release()
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        if self._token is not None:
            self.lease.resume_store.finish(self._token)
        if self._shared is not None:
            self.lease.sharing.close(self._shared)

    # ── clients that resume ──

    @property
    def away(self) -> bool:
        return self._link.away

    @property
    def finished(self) -> bool:
        return self._link.finished

    async def send_missed(self, websocket: WebSocket, events: int) -> bool:
        """See `Link.fetch`."""
        return await self._link.fetch(websocket, events, self.name, self._close)

    def resume_over(self, websocket: WebSocket, events: int) -> asyncio.Future[None] | None:
        """See `Link.attach`."""
        in_use = self._link.attach(websocket, events, self.name)
        self.idle.restart(asyncio.get_running_loop().time())
        self.outbox.wake()
        return in_use

    def leave(self, within_s: float) -> bool:
        moves = self._movable and not self.away and not self._input_ended
        if moves:
            with suppress(ProtocolError):  # the outbox is full: the pump finds that out by itself
                self.on_event(Moving(within_s=within_s))
        return moves

    def shut_down(self) -> None:
        self._link.abandon()
        super().shut_down()

    def drop(self) -> None:
        self._link.abandon()
        super().drop()

    async def abort(self, code: str, message: str) -> None:
        self._link.abandon()
        await super().abort(code, message)

    async def on_wake(self) -> None:
        if self._session is not None:
            self._link.safe = self._session.safe  # all events read from the session have been sent
        await self._link.flush()

    def _acknowledge(self) -> None:
        self._ack_timer = None
        self._link.request_ack()
        self.outbox.wake()
