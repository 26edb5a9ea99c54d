"""Tickets, which web pages send instead of a token. The page's own server has the token and requests tickets."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from .tokens import Client, digest

MAX_PER_CLIENT: Final = 100  # unused tickets


class _Ticket(NamedTuple):
    client: Client
    expires: float


class Tickets:
    """Each is valid for `lifetime_s` seconds and one use; a client has at most `MAX_PER_CLIENT`."""

    def __init__(self, lifetime_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lifetime_s = lifetime_s
        self._clock = clock
        self._tickets: dict[bytes, _Ticket] = {}  # by digest, oldest first

    def issue(self, client: Client) -> str | None:
        """A new ticket; None while the client has too many unused ones."""
        now = self._clock()
        while self._tickets and next(iter(self._tickets.values())).expires <= now:
            del self._tickets[next(iter(self._tickets))]
        if sum(ticket.client.name == client.name for ticket in self._tickets.values()) >= MAX_PER_CLIENT:
            return None
        ticket = secrets.token_urlsafe(32)
        self._tickets[digest(ticket)] = _Ticket(client, now + self.lifetime_s)
        return ticket

    def holder(self, ticket: str) -> Client | None:
        """The client that a valid ticket admits."""
        known = self._tickets.get(digest(ticket))
        return known.client if known is not None and known.expires > self._clock() else None

    def spend(self, ticket: str) -> bool:
        """Make the ticket invalid; False if it was already."""
        return self._tickets.pop(digest(ticket), None) is not None
