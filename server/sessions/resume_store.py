"""Sessions that a client can resume after a broken connection, by the token that it received."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final, NamedTuple, Protocol

from starlette.websockets import WebSocket

from ..access.tokens import Client, digest
from ..net.board import Posted
from .fronts import Fronts

MOST_FINISHED: Final = 1_000  # finished sessions whose last events clients can still fetch


class Resumable(Protocol):
    """A session whose connection may break."""

    name: str

    @property
    def away(self) -> bool:
        """Whether its client is disconnected and may resume."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the server closed the connection after the last event."""
        ...

    async def send_missed(self, websocket: WebSocket, events: int) -> bool:
        """Send a closed session's missed events and close. False if it no longer keeps them all."""
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

    def __init__(self, grace_s: float, fronts: Fronts | None = None) -> None:
        self.grace_s = grace_s
        self._fronts = fronts
        self._entries: dict[bytes, _Entry] = {}  # by the digest of the token
        self._expiries: dict[bytes, asyncio.TimerHandle] = {}  # of finished sessions

    @property
    def any_away(self) -> bool:
        """Whether any client, of any front, is disconnected and may resume."""
        return self.away > 0 or (self._fronts is not None and self._fronts.board.total(Posted.AWAY) > 0)

    @property
    def away(self) -> int:
        """Clients of this front that are disconnected and may resume."""
        return sum(entry.session.away for entry in self._entries.values())

    def add(self, client: Client, session: Resumable) -> str:
        """Store an open session. Returns its token."""
        secret = secrets.token_urlsafe(24)
        token = secret if self._fronts is None else self._fronts.key(secret)
        self._entries[digest(token)] = _Entry(client.name, session)
        return token

    def find(self, token: str, client: Client, *, named: bool) -> Resumable | None:
        """The session with that token; None if there is none.

        A client `named` by an access token must be the one that opened it; a client known by its address may have
        another address now.
        """
        entry = self._entries.get(digest(token))
        return entry.session if entry is not None and (entry.client == client.name or not named) else None

    def finish(self, token: str) -> None:
        """The session has ended. If the server closed it, its last events stay available for `grace_s`."""
        key = digest(token)
        if self._entries[key].session.finished and len(self._expiries) < MOST_FINISHED:
            self._expiries[key] = asyncio.get_running_loop().call_later(self.grace_s, self._remove, key)
        else:
            del self._entries[key]

    def _remove(self, key: bytes) -> None:
        del self._expiries[key], self._entries[key]
