"""Sessions that a client can resume after its connection broke, by the token that the client received."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import Final, NamedTuple, Protocol

from starlette.websockets import WebSocket

from ..access.tokens import Client

MOST_FINISHED: Final = 1_000  # finished sessions whose last events can still be fetched


class Resumable(Protocol):
    """A session whose connection may break."""

    name: str

    @property
    def away(self) -> bool:
        """Whether its client is disconnected and may come back."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the server closed the connection after the last event."""
        ...

    async def send_missed(self, websocket: WebSocket, events: int) -> bool:
        """After the end: send the events that the client missed, and close. False if they are no longer kept."""
        ...

    def resume_over(self, websocket: WebSocket, events: int) -> asyncio.Future[None] | None:
        """Continue over another websocket, whose client has received `events` events. None if that is impossible.
        The future is done when the session no longer uses the websocket.
        """
        ...


class _Entry(NamedTuple):
    client: str
    session: Resumable


class ResumeStore:
    """Holds a session while it is open, and for `grace_s` after its end."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self._entries: dict[bytes, _Entry] = {}  # by the digest of the token
        self._expiries: dict[bytes, asyncio.TimerHandle] = {}  # of finished sessions

    @property
    def any_away(self) -> bool:
        """Whether at least one client is disconnected and may come back."""
        return any(entry.session.away for entry in self._entries.values())

    def add(self, client: Client, session: Resumable) -> str:
        """Store an open session. Returns its token."""
        token = secrets.token_urlsafe(24)
        self._entries[_digest(token)] = _Entry(client.name, session)
        return token

    def find(self, token: str, client: Client, *, named: bool) -> Resumable | None:
        """The session. A client `named` by an access token must be the same as before; an address may have changed."""
        entry = self._entries.get(_digest(token))
        return entry.session if entry is not None and (entry.client == client.name or not named) else None

    def finish(self, token: str) -> None:
        """The session has ended. If the server closed it properly, its last events stay available for `grace_s`."""
        digest = _digest(token)
        if self._entries[digest].session.finished and len(self._expiries) < MOST_FINISHED:
            self._expiries[digest] = asyncio.get_running_loop().call_later(self.grace_s, self._remove, digest)
        else:
            del self._entries[digest]

    def _remove(self, digest: bytes) -> None:
        del self._expiries[digest], self._entries[digest]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
