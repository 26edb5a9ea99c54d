"""One client's connection, which may break and be made again: what was sent and not seen is sent again, what was heard
is not heard twice.

Audio is counted in bytes as it is handed on, and whoever takes it up hears all of it; so a client that is told the
number can go on from there. Events are numbered from 0 in the order in which they are sent, and the last of them kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from ...streaming.protocol.events import Ack, SessionResumed, to_json
from ..net.outbox import MAX_BYTES
from ..transport import ClientLeft, Data

GOODBYE_S: Final = 1.0  # to a connection that another one has replaced
REPLACED: Final = 1012


class Link:
    """`grace_s` is how long a client may be away; 0: not at all. Belongs to one event loop; one task receives, another
    sends. `subprotocol`: the one to choose of those that the client offers."""

    def __init__(self, websocket: WebSocket, subprotocol: str | None = None, *, grace_s: float, keeps: int) -> None:
        self._subprotocol = subprotocol
        self.received = 0  # bytes of audio
        self.sample_bytes = 1  # of all channels
        self.finished = False
        self._grace_s = grace_s
        self._websocket = websocket  # the latest
        self._up = True  # False: the client is away
        self._until = 0.0  # when it counts as gone
        self._back = asyncio.Event()
        self._gone = False
        self._reading: asyncio.Timeout | None = None
        self._writing: asyncio.Timeout | None = None
        self._served: asyncio.Future[None] | None = None  # of the handler that brought the websocket
        self._sent: deque[Data] = deque()
        self._keeps = keeps
        self._bytes = 0  # of `_sent`
        self._count = 0  # events, sent or to be sent
        self._next = 0  # event to be sent
        self._greeting: str | None = None
        self._skip = 0  # bytes that come twice: the begun sample
        self._ack_due = False

    @property
    def away(self) -> bool:
        return not self._up and not self._gone and not self.finished

    # ── as a transport ──

    async def open(self) -> None:
        await self._websocket.accept(self._subprotocol)

    async def receive(self) -> bytes | str:
        """The next message. Raises `ClientLeft` when the client has left, or was away too long."""
        while True:
            websocket = await self._there()
            try:
                async with asyncio.timeout(None) as self._reading:
                    message = await websocket.receive()
            except TimeoutError:
                if self._websocket is websocket:
                    raise
                continue  # there is another one now
            finally:
                self._reading = None
            if self._websocket is not websocket:
                continue  # another one came in the same moment, whose client sends again what was not counted
            if message["type"] != "websocket.disconnect":
                text: str | None = message.get("text")
                return text if text is not None else self._heard(message["bytes"])
            if "reason" in message:  # there was a closing frame: it was meant
                self.give_up()
            self._lost(websocket)

    def _heard(self, data: bytes) -> bytes:
        cut = min(self._skip, len(data))
        self._skip -= cut
        self.received += len(data) - cut
        return data[cut:] if cut else data

    def ack(self) -> None:
        """Let the next `flush` acknowledge what was received."""
        self._ack_due = bool(self._grace_s)

    async def send(self, data: Data) -> None:
        """An event."""
        await self.flush()  # who has come back may want the oldest of those that are kept
        self._sent.append(data)
        self._count += 1
        self._bytes += len(data)
        while len(self._sent) > 1 and (len(self._sent) > self._keeps or self._bytes > MAX_BYTES):
            self._bytes -= len(self._sent.popleft())
        await self.flush()

    async def flush(self) -> None:
        """Send what has not been sent. Waits while the client is away; raises `ClientLeft` if it stays so."""
        while self._greeting or self._ack_due or self._next < self._count:
            websocket = await self._there()
            number, text = self._next, self._greeting
            if text is None:
                ack = Ack(received=self.received // self.sample_bytes) if self._ack_due else None
                text = to_json(ack) if ack else self._sent[self._next - self._count]
            else:
                ack = None
            try:
                async with asyncio.timeout(None) as self._writing:
                    await _send(websocket, text)
            except TimeoutError:
                if self._websocket is websocket:
                    raise
                continue
            except ClientLeft:
                self._lost(websocket)
                continue
            finally:
                self._writing = None
            if self._websocket is not websocket:
                continue
            if text is self._greeting:
                self._greeting = None
            elif ack:
                self._ack_due = False
            else:
                self._next = number + 1

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye. The last events can still be fetched for a while: the connection may break over them."""
        websocket = await self._there()
        self.finished = True
        with suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close(code, reason)
        self.release()

    # ── coming back ──

    def attach(self, websocket: WebSocket, events: int, session: str) -> asyncio.Future[None] | None:
        """Go on with another websocket, whose client has seen so many events; None if they are not kept any more. The
        future is done when the websocket is no longer used."""
        if self._gone or not self._grace_s or not self._knows(events):
            return None
        old = self._websocket if self._up else None
        self._websocket, self._up = websocket, True
        self.release()
        self._served = asyncio.get_running_loop().create_future()
        self._next = events
        self._skip = self.received % self.sample_bytes
        self._greeting = self._resumed(events, session)
        for scope in (self._reading, self._writing):
            if scope is not None and not scope.expired():
                scope.reschedule(asyncio.get_running_loop().time())
        if old is not None:
            _dismiss(old)
        self._back.set()
        return self._served

    async def again(self, websocket: WebSocket, events: int, session: str, close: tuple[int, str]) -> bool:
        """After the end: send the events that the client has not seen, and close. False if they are not kept."""
        if not self._knows(events):
            return False
        rest = list(self._sent)[len(self._sent) - (self._count - events) :]
        for text in (self._resumed(events, session), *rest):
            await _send(websocket, text)
        await websocket.close(*close)
        return True

    def _knows(self, events: int) -> bool:
        return self._count - len(self._sent) <= events <= self._count

    def _resumed(self, events: int, session: str) -> str:
        received = self.received // self.sample_bytes
        return to_json(SessionResumed(session=session, received=received, event=events))

    def give_up(self) -> None:
        """Nobody may come back from here on."""
        self._grace_s = 0.0
        if not self._up:
            self._gone = True
            self._back.set()

    def _lost(self, websocket: WebSocket) -> None:
        """Raises `ClientLeft` unless the client may come back, or has."""
        if self._websocket is not websocket or not (self._up or self._gone):
            return
        self.release()
        if not self._grace_s or self.finished:
            self._gone = True
            raise ClientLeft
        self._up = False
        self._back.clear()
        self._until = asyncio.get_running_loop().time() + self._grace_s

    async def _there(self) -> WebSocket:
        while not self._up:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._until):
                    await self._back.wait()
            self._gone = self._gone or (not self._up and asyncio.get_running_loop().time() >= self._until)
            if self._gone:
                raise ClientLeft
        return self._websocket

    def release(self) -> None:
        """The websocket is no longer used."""
        if self._served is not None and not self._served.done():
            self._served.set_result(None)


async def _send(websocket: WebSocket, data: Data) -> None:
    try:
        await (websocket.send_text(data) if isinstance(data, str) else websocket.send_bytes(data))
    except (WebSocketDisconnect, RuntimeError) as error:  # RuntimeError: it was closed already
        raise ClientLeft from error


_goodbyes: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly


def _dismiss(websocket: WebSocket) -> None:
    async def close() -> None:
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):  # RuntimeError: it was closed already
            async with asyncio.timeout(GOODBYE_S):
                await websocket.close(REPLACED)

    task = asyncio.get_running_loop().create_task(close())
    _goodbyes.add(task)
    task.add_done_callback(_goodbyes.discard)
