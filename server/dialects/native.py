"""The native protocol at `/v1/stream`: messages in, one session's events out as they are. Its clients may come back
after their connection has broken.
"""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace
from starlette.websockets import WebSocket

from ...streaming.config import SAMPLE_BYTES
from ...streaming.errors import ConfigError
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.protocol.events import Error, Event, Partial, SessionStarted, Warning, to_json
from ...streaming.protocol.messages import ClientMessage, End, Flush, Grammar, Hotwords, Start, parse
from ..access.access import subprotocol
from ..sessions.admission import Seat
from ..sessions.link import Link
from ..sessions.sharing import Shared
from ..sessions.websocket import WebSocketStream, within

ACK_EVERY_S: Final = 1.0


class NativeStream(WebSocketStream):
    dialect = "native"

    def __init__(self, name: str, websocket: WebSocket, seat: Seat) -> None:
        super().__init__(name, websocket, seat)
        self.idle_timeout_s = min(seat.settings.request_timeout_s, self.idle_timeout_s)  # for the first message
        self.resume: Start | None = None  # what the client said, if it wants to go on with another session
        self._token: str | None = None  # for coming back
        self._shared: Shared | None = None
        self._acking: asyncio.TimerHandle | None = None  # until audio is acknowledged that has been received

    def transport(self, websocket: WebSocket, seat: Seat) -> Link:
        keeps = seat.settings.max_unread_events
        self._link = Link(websocket, subprotocol(websocket), grace_s=seat.kept.grace_s, keeps=keeps)
        return self._link

    async def converse(self) -> None:
        message = await self._message()
        self.idle_timeout_s = self.settings.idle_timeout_s
        start = message if isinstance(message, Start) else Start()
        if start.resume is not None:
            self.resume, self.handed_over = start, True
            return
        self.seat.begin(self.dialect)
        await self.recognizer.prepare(start.config.grammar)
        self._link.sample_bytes = SAMPLE_BYTES[start.encoding] * start.channels
        if start.share and not self.seat.sharing.limit:
            raise ProtocolError(Code.BAD_CONFIG, "this server shares no sessions (max_viewers is 0)")
        session = self.begin(start.config, start.audio)
        if start.share:
            self._shared = self.seat.sharing.open()
        if start.resumable and self.seat.kept.grace_s:
            self._token = self.seat.kept.keep(self.seat.account.client, self)
        else:
            self._link.give_up()
        if message is start:
            message = await self._message()
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
                        self.told(Warning(code=error.code, message=str(error)))
                case _:
                    await self.hear(message)
            message = await self._message()

    async def _message(self) -> bytes | ClientMessage:
        data = await self.next()
        if self._token is not None and self._acking is None:
            self._acking = asyncio.get_running_loop().call_later(ACK_EVERY_S, self._acknowledge)
        data = within(self.settings.max_message_bytes, data)
        return data if isinstance(data, bytes) else parse(data)

    def told(self, event: Event) -> None:
        if isinstance(event, SessionStarted):
            if self._token is not None:
                event = replace(event, resume=self._token, resume_s=self.seat.kept.grace_s)
            event = replace(event, share=UNSET if self._shared is None else self._shared.key)
        text = to_json(event)
        if self._shared is not None:
            self._shared.publish(event, text)
        self.say(text, event.utterance if isinstance(event, Partial) else None)

    def complaint(self, error: Error) -> str:
        return to_json(error)

    # ── clients that come back ──

    @property
    def away(self) -> bool:
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
        if self._waiting is not None:
            self._waiting = asyncio.get_running_loop().time()
        self.outbox.wake()
        return served

    def shut_down(self) -> None:
        self._link.give_up()
        super().shut_down()

    def drop(self) -> None:
        self._link.give_up()
        super().drop()

    async def last_word(self, code: str, message: str) -> None:
        self._link.give_up()
        await super().last_word(code, message)

    async def woken(self) -> None:
        await self._link.flush()

    def left(self) -> None:
        self._link.release()
        if self._acking is not None:
            self._acking.cancel()
        if self._token is not None:
            self.seat.kept.end(self._token)
        if self._shared is not None:
            self.seat.sharing.close(self._shared)

    def _acknowledge(self) -> None:
        self._acking = None
        self._link.ack()
        self.outbox.wake()
