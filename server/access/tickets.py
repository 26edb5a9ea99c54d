"""Tickets: what a web page shows instead of a token. Whoever has the token asks for one and hands it to the page, which
may open one websocket with it, soon.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from .tokens import Client

MOST_EACH: Final = 100  # unused tickets of one client


class _Ticket(NamedTuple):
    client: Client
    ends: float


class Tickets:
    """Good for `lifetime_s` seconds and one use; at most `MOST_EACH` for each client."""

    def __init__(self, lifetime_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lifetime_s = lifetime_s
        self._clock = clock
        self._tickets: dict[bytes, _Ticket] = {}  # by digest, the oldest first

    def issue(self, client: Client) -> str | None:
        """A new one; None while too many are unused."""
        now = self._clock()
        while self._tickets and next(iter(self._tickets.values())).ends <= now:
            del self._tickets[next(iter(self._tickets))]
        if sum(ticket.client.name == client.name for ticket in self._tickets.values()) >= MOST_EACH:
            return None
        ticket = secrets.token_urlsafe(32)
        self._tickets[_digest(ticket)] = _Ticket(client, now + self.lifetime_s)
        return ticket

    def holder(self, ticket: str) -> Client | None:
        """Whom it lets in, if it is still good."""
        known = self._tickets.get(_digest(ticket))
        return known.client if known is not None and known.ends > self._clock() else None

    def spend(self, ticket: str) -> None:
        """It has been used."""
        self._tickets.pop(_digest(ticket), None)


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode(errors="replace")).digest()
