"""Shared sessions, which others can watch as server-sent events (HTML standard, section 9.2). Each event is encoded
once for all viewers.

A viewer is a position in the session's log. The log keeps finals, so a viewer that joins late or reconnects gets them.
It keeps only the newest partial, so a slow viewer misses partials but delays no one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from msgspec.structs import replace
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ...streaming.protocol.events import Event, Partial, SessionEnded, Shared, SpeechEnded, Translation, to_json
from ...streaming.protocol.events import Final as FinalEvent
from ..access.tokens import digest
from ..net.board import Posted
from .fronts import Fronts

MOST_KEPT: Final = 1_000  # finals of one session; the oldest are dropped
MOST_ENDED: Final = 100  # ended sessions that viewers can still read
ENDED_S: Final = 30.0  # how long viewers can still read them after a broken connection
VIEWER_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff", "x-accel-buffering": "no"}
BEAT_S: Final = 15.0  # between comments on an idle connection, which proxies would otherwise close


class SharedSession:
    """The log of one session's events. Belongs to one event loop."""

    def __init__(self, key: str, began: str) -> None:
        self.key = key
        self._began = began
        self._log: deque[tuple[bool, bytes]] = deque()  # whether it is a final
        self._finals = 0  # of these
        self._count = 0  # number of all logged events, kept or not
        self._newest = b""  # the newest partial of the open utterance
        self._ended = False
        self._changed = asyncio.Event()  # replaced after each change
        self._head = b""  # the event that viewers get first, and again when the title changes
        self.set_title("")

    def set_title(self, title: str) -> Shared:
        """Show viewers a title. Returns the event for the client that shares."""
        head = Shared(began=self._began, title=title)
        self._head = f"data: {to_json(head)}\n\n".encode()
        self._wake()
        return replace(head, share=self.key)

    def publish(self, event: Event, text: str) -> None:
        """Log an event if viewers receive its type; `text` is its JSON."""
        match event:
            case FinalEvent() | SessionEnded():
                self._keep(text, is_final=isinstance(event, FinalEvent))
                self._newest = b""
                self._ended = isinstance(event, SessionEnded)
            case Translation():
                self._keep(text, is_final=False)
            case Partial():
                self._newest = f"data: {text}\n\n".encode()
            case SpeechEnded() if self._newest:  # without a final: viewers drop the partial
                self._newest = f"data: {text}\n\n".encode()
            case _:
                return
        self._wake()

    def end(self) -> None:
        """Mark the log as complete."""
        self._ended = True
        self._wake()

    async def watch(self, seen: int) -> AsyncIterator[bytes]:
        """The stream for a viewer that has received the first `seen` logged events."""
        position = seen if seen <= self._count else 0
        head, sent = self._head, b""
        yield b"retry: 1000\n\n" + head
        while True:
            changed = self._changed
            missing = min(self._count - position, len(self._log))
            news = [self._log[at][1] for at in range(len(self._log) - missing, len(self._log))]
            position = self._count
            if self._head is not head:
                news.insert(0, self._head)
            head = self._head
            if self._newest and self._newest is not sent:
                news.append(self._newest)
            sent = self._newest
            if news:
                yield b"".join(news)
            elif self._ended:
                return
            elif changed is self._changed:
                try:
                    async with asyncio.timeout(BEAT_S):
                        await changed.wait()
                except TimeoutError:
                    yield b":\n\n"

    def _keep(self, text: str, *, is_final: bool) -> None:
        self._count += 1
        self._log.append((is_final, f"id: {self._count}\ndata: {text}\n\n".encode()))
        self._finals += is_final
        while self._finals > MOST_KEPT:
            self._finals -= self._log.popleft()[0]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class SharedSessions:
    """The shared sessions of a server, by key. `limit` is the maximum number of viewers of all of them together."""

    def __init__(self, limit: int, fronts: Fronts | None = None) -> None:
        self.limit = limit
        self._fronts = fronts
        self.viewers = 0
        self._sessions: dict[bytes, SharedSession] = {}
        self._ended: deque[SharedSession] = deque()

    @property
    def full(self) -> bool:
        return (self.viewers if self._fronts is None else self._fronts.board.total(Posted.VIEWERS)) >= self.limit

    def count_viewer(self, change: int) -> None:
        """A viewer comes, or leaves."""
        self.viewers += change
        if self._fronts is not None:
            self._fronts.board.post(Posted.VIEWERS, self.viewers)

    def open(self, began: str) -> SharedSession:
        """Share a session that began at this time. Anyone with its key can read it."""
        secret = secrets.token_urlsafe(24)
        shared = SharedSession(secret if self._fronts is None else self._fronts.key(secret), began)
        self._sessions[digest(shared.key)] = shared
        return shared

    def find(self, key: str) -> SharedSession | None:
        return self._sessions.get(digest(key))

    def close(self, shared: SharedSession) -> None:
        """The session has ended. Its key works for `ENDED_S` more seconds."""
        shared.end()
        self._ended.append(shared)
        if len(self._ended) > MOST_ENDED:
            self._forget(self._ended[0])
        asyncio.get_running_loop().call_later(ENDED_S, self._forget, shared)

    def revoke(self, shared: SharedSession) -> None:
        """The session is shared no more: its key is void, and its viewers are disconnected."""
        shared.end()
        self._forget(shared)

    def _forget(self, shared: SharedSession) -> None:
        self._sessions.pop(digest(shared.key), None)
        with suppress(ValueError):
            self._ended.remove(shared)


class ViewerResponse(StreamingResponse):
    """The HTTP response to one viewer; counts the viewer while it is open."""

    def __init__(self, sharing: SharedSessions, shared: SharedSession, last_event_id: str) -> None:
        seen = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 16 else 0
        super().__init__(shared.watch(seen), headers=VIEWER_HEADERS, media_type="text/event-stream")
        self._sharing = sharing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._sharing.count_viewer(+1)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._sharing.count_viewer(-1)
