"""Sessions that others watch: each event is encoded once, as server-sent events (HTML standard, section 9.2).

A viewer is a place in the session's log and nothing more. Finals are kept, so that one who comes late or comes back has
them; of partials there is only the newest, so a slow viewer misses some and holds up nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ...streaming.protocol.events import Event, Partial, SessionEnded, SpeechEnded
from ...streaming.protocol.events import Final as FinalEvent

MOST_KEPT: Final = 1_000  # finals of one session, the newest
MOST_ENDED: Final = 100  # sessions whose last words can still be read
ENDED_S: Final = 30.0  # for so long, by viewers whose connection broke
BEAT_S: Final = 15.0  # silence in which proxies do not give a connection up


class Shared:
    """One session's events on their way to viewers. Belongs to one event loop."""

    def __init__(self, key: str) -> None:
        self.key = key
        self._log: deque[bytes] = deque(maxlen=MOST_KEPT)
        self._count = 0  # of what was logged
        self._now = b""  # what is said at this moment
        self._ended = False
        self._changed = asyncio.Event()  # another one after each change

    def publish(self, event: Event, text: str) -> None:
        """Tell viewers an event, if it is for them; `text` is its JSON."""
        match event:
            case FinalEvent() | SessionEnded():
                self._count += 1
                self._log.append(f"id: {self._count}\ndata: {text}\n\n".encode())
                self._now = b""
                self._ended = isinstance(event, SessionEnded)
            case Partial():
                self._now = f"data: {text}\n\n".encode()
            case SpeechEnded() if self._now:  # nothing was said after all
                self._now = f"data: {text}\n\n".encode()
            case _:
                return
        self._wake()

    def end(self) -> None:
        """Nothing follows."""
        self._ended = True
        self._wake()

    async def watch(self, seen: int) -> AsyncIterator[bytes]:
        """What a viewer is told that has seen so many of the kept events."""
        place = seen if seen <= self._count else 0
        told = b""
        yield b"retry: 1000\n\n"
        while True:
            changed = self._changed
            missing = min(self._count - place, len(self._log))
            news = [self._log[at] for at in range(len(self._log) - missing, len(self._log))]
            place = self._count
            if self._now and self._now is not told:
                news.append(self._now)
            told = self._now
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

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Sharing:
    """All shared sessions of a server, by their keys; `limit` is the most viewers of all of them together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.viewers = 0
        self._sessions: dict[bytes, Shared] = {}
        self._ended: deque[Shared] = deque()

    @property
    def full(self) -> bool:
        return self.viewers >= self.limit

    def open(self) -> Shared:
        """Share a session. Whoever has its key can read it."""
        shared = Shared(secrets.token_urlsafe(24))
        self._sessions[_digest(shared.key)] = shared
        return shared

    def find(self, key: str) -> Shared | None:
        return self._sessions.get(_digest(key))

    def close(self, shared: Shared) -> None:
        """The session has ended, and soon its key is good for nothing."""
        shared.end()
        self._ended.append(shared)
        if len(self._ended) > MOST_ENDED:
            self._forget(self._ended[0])
        asyncio.get_running_loop().call_later(ENDED_S, self._forget, shared)

    def _forget(self, shared: Shared) -> None:
        self._sessions.pop(_digest(shared.key), None)
        with suppress(ValueError):
            self._ended.remove(shared)


class Watching(StreamingResponse):
    """One viewer's answer; it counts as long as it lasts."""

    def __init__(self, sharing: Sharing, shared: Shared, last_event_id: str) -> None:
        seen = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 16 else 0
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", "x-accel-buffering": "no"}
        super().__init__(shared.watch(seen), headers=headers, media_type="text/event-stream")
        self._sharing = sharing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._sharing.viewers += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._sharing.viewers -= 1


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="replace")).digest()
