"""The connection of a client that may resume: another websocket can replace a broken one.

The link counts bytes of audio as it receives them, and every counted byte reaches the session. So a client that knows
the count can continue from there. Events are numbered from 0 in the order of sending; the link keeps the newest.

                  attached
                 ┌────────┐
    CONNECTED ◀──┘        │
       │ │  lost (may resume)        expired, abandoned
       │ └──────────────────▶ AWAY ────────────────────▶ GONE
       │  lost (may not resume)                            ▲
       ├───────────────────────────────────────────────────┘
       │  closed
       └──────────────────▶ CLOSED
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum, auto
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from ...streaming.protocol.events import Ack, SessionResumed, to_json
from ..transport import ClientLeft, Data
from .interruption import Interrupted, Interruption
from .sent_events import SentEvents

GOODBYE_S: Final = 1.0  # time for the close frame of a replaced connection
REPLACED: Final = 1012


class LinkState(Enum):
    """Whether a session's client is there."""

    CONNECTED = auto()
    AWAY = auto()  # the connection broke; the client may resume until the deadline
    GONE = auto()  # the client left, or did not resume in time
    CLOSED = auto()  # the server closed the connection; the last events can still be fetched


class _Trigger(Enum):
    ATTACHED = auto()
    LOST = auto()
    ABANDONED = auto()
    EXPIRED = auto()
    CLOSED = auto()


class Link:
    """A transport that belongs to one event loop; one task receives, another sends.

    `grace_s`: time to resume after a lost connection; 0: no resuming. `keeps`: number of events kept for that.
    `subprotocol`: the websocket subprotocol to accept.
    """

    def __init__(self, websocket: WebSocket, subprotocol: str | None = None, *, grace_s: float, keeps: int) -> None:
        self.received = 0  # bytes of audio
        self.safe = 0  # first sample that another server needs once the client has all queued events
        self.sample_bytes = 1  # of all channels together
        self.state = LinkState.CONNECTED
        self._websocket = websocket  # the newest
        self._subprotocol = subprotocol
        self._grace_s = grace_s
        self._deadline = 0.0  # of a client that is away, on the loop's clock
        self._changed = asyncio.Event()  # set when a client that was away is connected or gone
        self._reading, self._writing = Interruption(), Interruption()
        self._in_use: asyncio.Future[None] | None = None  # pending while an attached websocket is in use
        self._events = SentEvents(keeps)
        self._greeting: str | None = None  # to be sent before all events
        self._skip = 0  # bytes that the client sends again: the incomplete sample
        self._ack_due = False

    @property
    def away(self) -> bool:
        return self.state is LinkState.AWAY

    @property
    def finished(self) -> bool:
        return self.state is LinkState.CLOSED

    def _on(self, trigger: _Trigger) -> LinkState:
        """The only place where the state changes. Returns the new state."""
        match self.state, trigger:
            case ((LinkState.CONNECTED | LinkState.AWAY), _Trigger.ATTACHED):
                self.state = LinkState.CONNECTED
                self._changed.set()
            case LinkState.CONNECTED, _Trigger.LOST if self._grace_s:
                self.state = LinkState.AWAY
                self._deadline = asyncio.get_running_loop().time() + self._grace_s
                self._changed.clear()
            case LinkState.CONNECTED, _Trigger.LOST:
                self.state = LinkState.GONE
            case LinkState.AWAY, (_Trigger.EXPIRED | _Trigger.ABANDONED):
                self.state = LinkState.GONE
                self._changed.set()
            case LinkState.CONNECTED, _Trigger.CLOSED:
                self.state = LinkState.CLOSED
            case _:
                pass
        return self.state

    # ── as a transport ──

    async def open(self) -> None:
        await self._websocket.accept(self._subprotocol)

    async def receive(self) -> bytes | str:
        """The next message. Raises `ClientLeft` if the client left or did not resume in time."""
        while True:
            websocket = await self._connected()
            try:
                with self._reading:
                    message = await websocket.receive()
            except Interrupted:
                continue  # replaced by another websocket
            if self._websocket is not websocket:
                continue  # just replaced: the client sends uncounted audio again
            if message["type"] != "websocket.disconnect":
                text: str | None = message.get("text")
                return text if text is not None else self._count(message["bytes"])
            if "reason" in message:  # a close frame: the client closed on purpose
                self.abandon()
            self._lost(websocket)

    def _count(self, data: bytes) -> bytes:
        cut = min(self._skip, len(data))
        self._skip -= cut
        self.received += len(data) - cut
        return data[cut:] if cut else data

    def begin(self, sample: int, event: int) -> None:
        """Continue the session of another server at this sample, with this event as the next."""
        self.received, self.safe = sample * self.sample_bytes, sample
        self._events.begin(event)

    def request_ack(self) -> None:
        """Make the next `flush` acknowledge the received audio."""
        self._ack_due = bool(self._grace_s)

    async def send(self, data: Data) -> None:
        """Send an event."""
        await self.flush()  # first: a client that resumes may need the oldest kept event, which `add` may drop
        self._events.add(data)
        await self.flush()

    async def flush(self) -> None:
        """Send pending messages. Waits while the client is away; raises `ClientLeft` if it does not resume in time."""
        while self._greeting or self._ack_due or self._events.pending:
            websocket = await self._connected()
            number, greeting = self._events.next, self._greeting
            ack = greeting is None and not self._events.pending  # `safe` relies on the events before it
            if greeting is not None:
                data: Data = greeting
            elif ack:
                data = to_json(Ack(received=self.received // self.sample_bytes, safe=self.safe))
            else:
                data = self._events[number]
            if not await self._deliver(websocket, data):
                continue
            if greeting is not None:
                self._greeting = None
            elif ack:
                self._ack_due = False
            else:
                self._events.next = number + 1

    async def _deliver(self, websocket: WebSocket, data: Data) -> bool:
        """Send one message. False if the connection broke or was replaced."""
        try:
            with self._writing:
                await _send(websocket, data)
        except Interrupted:
            return False
        except ClientLeft:
            self._lost(websocket)
            return False
        return self._websocket is websocket

    async def close(self, code: int, reason: str) -> None:
        """Close the connection. A client that lost it before the last events can still fetch them."""
        websocket = await self._connected()
        self._on(_Trigger.CLOSED)
        with suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close(code, reason)
        self.release()

    # ── resuming ──

    def attach(self, websocket: WebSocket, events: int, session: str) -> asyncio.Future[None] | None:
        """Continue over another websocket, whose client has received `events` events. None if that is impossible.

        The future is done when the link no longer uses the websocket.
        """
        if not self._grace_s or not self._events.can_resume_at(events):
            return None
        old = self._websocket if self.state is LinkState.CONNECTED else None
        if self._on(_Trigger.ATTACHED) is not LinkState.CONNECTED:
            return None
        self.release()
        self._websocket = websocket
        self._in_use = asyncio.get_running_loop().create_future()
        self._events.next = events
        self._skip = self.received % self.sample_bytes
        self._greeting = self._resumed(events, session)
        self._reading.interrupt()
        self._writing.interrupt()
        if old is not None:
            _dismiss(old)
        return self._in_use

    async def fetch(self, websocket: WebSocket, events: int, session: str, close: tuple[int, str]) -> bool:
        """Send a closed session's missed events and close. False if the link no longer keeps them all."""
        if not self._events.can_resume_at(events):
            return False
        for data in (self._resumed(events, session), *self._events.since(events)):
            await _send(websocket, data)
        await websocket.close(*close)
        return True

    def _resumed(self, events: int, session: str) -> str:
        received = self.received // self.sample_bytes
        return to_json(SessionResumed(session=session, received=received, event=events))

    def abandon(self) -> None:
        """Do not let the client resume."""
        self._grace_s = 0.0
        self._on(_Trigger.ABANDONED)

    def release(self) -> None:
        """Mark the websocket as no longer used."""
        if self._in_use is not None and not self._in_use.done():
            self._in_use.set_result(None)

    def _lost(self, websocket: WebSocket) -> None:
        """Handle a broken websocket. Raises `ClientLeft` unless the client may resume or already has."""
        if self._websocket is not websocket or self.state is LinkState.AWAY:
            return
        self.release()
        if self._on(_Trigger.LOST) is not LinkState.AWAY:
            raise ClientLeft

    async def _connected(self) -> WebSocket:
        """The websocket to use. Waits while the client is away; raises `ClientLeft` if it is gone."""
        while self.state is LinkState.AWAY:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._deadline):
                    await self._changed.wait()
            if self.away and asyncio.get_running_loop().time() >= self._deadline:
                self._on(_Trigger.EXPIRED)
        if self.state is LinkState.GONE:
            raise ClientLeft
        return self._websocket


async def _send(websocket: WebSocket, data: Data) -> None:
    try:
        await (websocket.send_text(data) if isinstance(data, str) else websocket.send_bytes(data))
    except (WebSocketDisconnect, RuntimeError) as error:  # RuntimeError: already closed
        raise ClientLeft from error


_goodbyes: set[asyncio.Task[None]] = set()  # the event loop holds tasks only weakly


def _dismiss(websocket: WebSocket) -> None:
    async def close() -> None:
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):  # RuntimeError: already closed
            async with asyncio.timeout(GOODBYE_S):
                await websocket.close(REPLACED)

    task = asyncio.get_running_loop().create_task(close())
    _goodbyes.add(task)
    task.add_done_callback(_goodbyes.discard)
